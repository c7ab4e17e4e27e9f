/* The compiled path of the generator: the same bits as reference.py. Called through ctypes (native.py), so it needs
 * neither Python's headers nor its lock, and threads run it side by side.
 *
 * How a cell is decided.  The hidden layer is a sum of table rows in int32, exact in any order. The logits are first
 * computed in float32, eight cells to a vector, only to see whether the largest of them is the largest beyond doubt:
 * by more than what float32 may be wrong (B below, on both sides) and what a temperature can bridge. If not, the cell
 * is decided again (`decide_exactly`) from exact logits of the states that are not out of the question. So float32
 * never decides anything that it could get wrong, and the bits depend on neither vector width nor order of sums.
 *
 * The bound B.  A logit is f = sum_c w_c h_c with integers w_c and h_c >= 0, c < C. Let u = 2^-24. float32 computes it
 * with each term touched by at most C + 2 roundings: one of w_c, one of h_c, one of the product, at most C - 1 of the
 * running sum (the first addition is to zero, and padded channels add zeros, exactly); a fused multiply-add only has
 * fewer. Integers do not underflow. Hence (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1)
 *     |fl(f) - f| <= g sum_c |w_c| h_c <= B := g max_s sum_c |w_cs| H_c,     g = (C + 2) u / (1 - (C + 2) u),
 * where H_c = max(0, sum_k max_s table[k][s][c]) bounds the hidden layer of this rule over all grids. Two computed
 * logits that differ by more than 2 B are in their true order; if by more than 2 B + x, the true gap exceeds x. The
 * rounding of that difference, of the threshold and of B itself are below its last factor 1 + 2^-20.
 *
 * Compiled with -ffp-contract=off, because the exponential below has one order of roundings; nothing else here needs
 * it. Vectors of 32 bytes are one register of AVX2 and two of SSE2 or NEON; on x86-64 Linux each entry point exists in
 * both forms and the machine that runs it chooses, so a binary that one node built runs on another.
 *
 * Shapes as in rollout.py; S cells of the flat grid, TILE cells that are computed together.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ABI 1
#define TILE 16
#define BLOCK 16 /* channels; the hidden layer is padded to a multiple */
#define STATES 5 /* logits that are summed together: 5 x 2 sums, 2 hidden vectors and a weight fit 16 registers */
#define LANES 8
#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && !defined(__AVX2__) && !defined(NO_CLONES)
#define EXPORT __attribute__((visibility("default"), target_clones("default", "avx2")))
#else
#define EXPORT __attribute__((visibility("default")))
#endif
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Ints){__VA_ARGS__})
#endif

typedef float Floats __attribute__((vector_size(32), may_alias));
typedef int32_t Ints __attribute__((vector_size(32), may_alias));
typedef double Doubles __attribute__((vector_size(32), may_alias));
typedef int64_t Longs __attribute__((vector_size(32), may_alias));

/* What every rollout of a call has in common; `native.Plan` mirrors it. */
struct plan {
    int64_t height, width, side, states, channels, frames, burn_in, stride, uniform;
    int64_t inputs, linear; /* of the kernels that rules are drawn from */
    double temperature, no_weight, normal_range;
    uint64_t key[2];
    double exp_terms[16];
};

/* ---- random numbers: philox.py in C -------------------------------------------------------------------------- */

/* The two words of Philox4x32-10 at LANES counters (a, b, step, cell[i]). One loop over lanes with its rounds laid out
 * inside is what compilers turn into vectors. */
INLINE void philox(uint64_t *restrict first, uint64_t *restrict second, const uint64_t *key, const uint64_t *number,
                   uint32_t step, const uint32_t *restrict cell) {
    const uint32_t number0 = (uint32_t)number[0], number1 = (uint32_t)number[1];
    const uint32_t key0 = (uint32_t)key[0], key1 = (uint32_t)key[1];
    for (int i = 0; i < LANES; i++) {
        uint32_t a = number0, b = number1, c = step, d = cell[i], k0 = key0, k1 = key1;
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            uint32_t low0 = a * 0xD2511F53u, high0 = (uint32_t)(((uint64_t)a * 0xD2511F53u) >> 32);
            uint32_t low1 = c * 0xCD9E8D57u, high1 = (uint32_t)(((uint64_t)c * 0xCD9E8D57u) >> 32);
            a = high1 ^ b ^ k0, b = low1, c = high0 ^ d ^ k1, d = low0;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        first[i] = a | (uint64_t)b << 32, second[i] = c | (uint64_t)d << 32;
    }
}

/* exp(-x) 2^whole in the order of philox.scaled_exp, whose value is floor(scale exp_parts) >> whole; 0 <= x < 60. */
INLINE Doubles exp_parts(Doubles x, Doubles *whole, const double *terms) {
    const Doubles one = {1.0, 1.0, 1.0, 1.0};
    Doubles y = x * 1.4426950408889634, near = (y + 0x1.8p52) - 0x1.8p52; /* the nearest integer */
    *whole = near - (Doubles)((Longs)one & (near > y));
    Doubles part = y - *whole, value = one * terms[15];
    for (int term = 14; term >= 0; term--) {
        value = value * part + terms[term];
    }
    return value;
}

INLINE int64_t multiply_high(uint64_t p, uint64_t q) { return (int64_t)(uint64_t)(((unsigned __int128)p * q) >> 64); }

/* Normals inside +-limit from the blocks (a, b, step, attempt 0, 1, ...). `out` has room for LANES more. */
INLINE void fill_normals(double *out, int64_t count, const struct plan *plan, const uint64_t *number, uint32_t step,
                         double limit) {
    uint64_t first[LANES], second[LANES];
    uint32_t attempt[LANES];
    double u[LANES], height[LANES], whole[LANES];
    for (int64_t filled = 0, tries = 0; filled < count; tries += LANES) {
        for (int i = 0; i < LANES; i++) {
            attempt[i] = (uint32_t)(tries + i);
        }
        philox(first, second, plan->key, number, step, attempt);
        for (int i = 0; i < LANES; i++) {
            u[i] = ((double)(int64_t)(first[i] >> 11) * 0x1p-52 - 1.0) * limit;
        }
        for (int i = 0; i < LANES; i += 4) {
            Doubles x, power;
            memcpy(&x, u + i, sizeof x);
            x = exp_parts(x * x * 0.5, &power, plan->exp_terms) * 0x1p53;
            memcpy(height + i, &x, sizeof x);
            memcpy(whole + i, &power, sizeof power);
        }
        for (int i = 0; i < LANES; i++) {
            out[filled] = u[i]; /* written anew where it is not taken */
            filled += (int64_t)(second[i] >> 11) < (int64_t)height[i] >> (int64_t)whole[i];
        }
    }
}

/* ---- a rule as the loops want it ------------------------------------------------------------------------------ */

struct rule {
    int64_t channels;             /* C, a multiple of BLOCK; what is added to the plan's is zero */
    int64_t states;               /* N of the plan */
    int64_t padded;               /* N as a multiple of STATES */
    float threshold;              /* gap of float32 logits, in units of 2^-40, from which the argmax is certain */
    int32_t *table;               /* (K, N, C) */
    float *output;                /* (N / STATES, C, STATES): a pass over the channels reads it in order */
    double *exact;                /* (N, C): the same, exact */
};

/* Everything that one rollout needs, in one allocation. */
struct scratch {
    struct rule rule;
    uint8_t *state;          /* (S) */
    uint32_t *placed;        /* (side, rows, W): byte offsets of table rows, columns shifted by -r .. r */
    int64_t copy;            /* length of one of these shifted grids */
    const uint32_t **window; /* (K): where in `placed` the k-th neighbour of cell 0 lies */
    int32_t *rows;           /* (TILE, C): sums of table rows */
    float *hidden;           /* (C, TILE): rectified */
    float *logits;           /* (N, TILE) */
    double *units;           /* (C): hidden layer of a cell that is decided again */
    int64_t choices;         /* states that can follow it, rounded up to 4, and for each its */
    uint8_t *choice;         /* name, */
    double *column;          /* exact logit (and room for LANES more) */
    int64_t *weights;        /* and the integer weights up to it */
};

INLINE int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/* Give out `bytes` of the arena on cache lines; where `base` is NULL only count them. */
INLINE void *take(char *base, int64_t *used, int64_t bytes) {
    void *place = base ? base + *used : NULL;
    *used += round_up(bytes, 64) + 64;
    return place;
}

INLINE int64_t lay_out(struct scratch *s, const struct plan *plan, char *base) {
    int64_t used = 0, window = plan->side * plan->side, cells = plan->height * plan->width;
    int64_t channels = round_up(plan->channels, BLOCK), states = round_up(plan->states, STATES);
    s->rule.channels = channels, s->rule.padded = states, s->rule.states = plan->states;
    s->copy = (plan->height + plan->side) * plan->width + 2 * TILE; /* slack: shifts and the last tile read beyond */
    s->rule.table = take(base, &used, window * plan->states * channels * 4);
    s->rule.output = take(base, &used, states * channels * 4);
    s->rule.exact = take(base, &used, plan->states * channels * 8);
    s->state = take(base, &used, round_up(cells, TILE));
    s->placed = take(base, &used, (plan->side + 1) * s->copy * 4);
    s->window = take(base, &used, window * (int64_t)sizeof(uint32_t *));
    s->rows = take(base, &used, TILE * channels * 4);
    s->hidden = take(base, &used, TILE * channels * 4);
    s->logits = take(base, &used, TILE * states * 4);
    s->column = take(base, &used, (states + LANES) * 8);
    s->units = take(base, &used, channels * 8);
    s->weights = take(base, &used, (states + 4) * 8);
    s->choice = take(base, &used, states + 4);
    return used;
}

/* Return the error bound B of a rule; see the top. */
INLINE double error_bound(const struct plan *plan, const int32_t *table, const int32_t *output, double *sums) {
    int64_t window = plan->side * plan->side, states = plan->states, channels = plan->channels;
    double worst = 0.0, unit = (double)(channels + 2) * 0x1p-24;
    for (int64_t s = 0; s < states; s++) {
        sums[s] = 0.0;
    }
    for (int64_t c = 0; c < channels; c++) {
        int64_t most = 0;
        for (int64_t k = 0; k < window; k++) {
            const int32_t *rows = table + k * states * channels + c;
            int32_t top = rows[0];
            for (int64_t s = 1; s < states; s++) {
                top = rows[s * channels] > top ? rows[s * channels] : top;
            }
            most += top;
        }
        for (int64_t s = 0; s < states && most > 0; s++) {
            double weight = output[c * states + s];
            sums[s] += (weight < 0 ? -weight : weight) * (double)most;
        }
    }
    for (int64_t s = 0; s < states; s++) {
        worst = sums[s] > worst ? sums[s] : worst;
    }
    return worst * unit / (1.0 - unit);
}

INLINE void load_rule(struct scratch *s, const struct plan *plan, const int32_t *table, const int32_t *output) {
    struct rule *rule = &s->rule;
    int64_t rows = plan->side * plan->side * plan->states, channels = plan->channels, states = plan->states;
    for (int64_t row = 0; row < rows; row++) {
        memcpy(rule->table + row * rule->channels, table + row * channels, (size_t)channels * 4);
    }
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t n = 0; n < states; n++) {
            int32_t weight = output[c * states + n];
            rule->output[(n / STATES * rule->channels + c) * STATES + n % STATES] = (float)weight;
            rule->exact[n * rule->channels + c] = weight;
        }
    }
    double bridged = plan->temperature > 0 ? (plan->no_weight + 1.0) * plan->temperature * 0x1p40 : 0.0;
    rule->threshold = (float)((2.0 * error_bound(plan, table, output, s->column) + bridged) * (1.0 + 0x1p-20));
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

/* Place the grid's table offsets `side` times, shifted by a column each and with rows of the torus above and below, so
 * that the k-th neighbours of consecutive cells are consecutive. */
INLINE void place(struct scratch *s, const struct plan *plan) {
    int64_t height = plan->height, width = plan->width, radius = plan->side / 2, cells = height * width;
    uint32_t stride = (uint32_t)(s->rule.channels * 4);
    uint32_t *middle = s->placed + radius * s->copy + TILE, *body = middle + radius * width;
    for (int64_t i = 0; i < cells; i++) {
        body[i] = s->state[i] * stride;
    }
    for (int64_t row = 1; row <= radius; row++) {
        memcpy(body - row * width, body + (height - 1 - (row - 1) % height) * width, (size_t)width * 4);
        memcpy(body + (height - 1 + row) * width, body + (row - 1) % height * width, (size_t)width * 4);
    }
    int64_t length = (height + 2 * radius) * width;
    for (int64_t shift = -radius; shift <= radius; shift++) {
        if (shift == 0) {
            continue;
        }
        uint32_t *copy = s->placed + (radius + shift) * s->copy + TILE;
        for (int64_t i = 0; i < length; i++) {
            copy[i] = middle[i + shift];
        }
        int64_t wrapped = shift < 0 ? -shift : shift;
        wrapped = wrapped < width ? wrapped : width;
        int64_t from = shift < 0 ? 0 : width - wrapped;
        for (int64_t x = from; x < from + wrapped; x++) {
            int64_t source = ((x + shift) % width + width) % width;
            for (int64_t row = 0; row < length; row += width) {
                copy[row + x] = middle[row + source];
            }
        }
    }
}

INLINE Ints row_at(const char *table, uint32_t offset) { return *(const Ints *)(table + offset); }

/* Sum the window's table rows of TILE cells: (TILE, C) in `rows`. */
INLINE void sum_rows(struct scratch *s, int64_t window, int64_t start) {
    int64_t channels = s->rule.channels, step = s->rule.states * channels * 4;
    for (int64_t c = 0; c < channels; c += BLOCK) {
        for (int64_t i = 0; i < TILE; i += 4) {
            Ints a0 = {0}, a1 = {0}, b0 = {0}, b1 = {0}, c0 = {0}, c1 = {0}, d0 = {0}, d1 = {0};
            const char *table = (const char *)(s->rule.table + c);
            for (int64_t k = 0; k < window; k++, table += step) {
                const uint32_t *at = s->window[k] + start + i;
                a0 += row_at(table, at[0]), a1 += row_at(table + 32, at[0]);
                b0 += row_at(table, at[1]), b1 += row_at(table + 32, at[1]);
                c0 += row_at(table, at[2]), c1 += row_at(table + 32, at[2]);
                d0 += row_at(table, at[3]), d1 += row_at(table + 32, at[3]);
            }
            Ints *out = (Ints *)(s->rows + i * channels + c);
            int64_t next = channels / 8;
            out[0] = a0, out[1] = a1, out[next] = b0, out[next + 1] = b1;
            out[2 * next] = c0, out[2 * next + 1] = c1, out[3 * next] = d0, out[3 * next + 1] = d1;
        }
    }
}

INLINE Floats rectified(Ints sum) { return __builtin_convertvector(sum & (sum > 0), Floats); }

/* Turn (TILE, C) sums into (C, TILE) rectified floats, 8 x 8 at a time. */
INLINE void transpose(struct scratch *s) {
    int64_t channels = s->rule.channels;
    for (int64_t c = 0; c < channels; c += 8) {
        for (int64_t i = 0; i < TILE; i += 8) {
            Floats in[8], half[8], quarter[8];
            for (int r = 0; r < 8; r++) {
                in[r] = rectified(*(const Ints *)(s->rows + (i + r) * channels + c));
            }
            for (int r = 0; r < 8; r += 2) { /* pairs of rows, element by element */
                half[r] = SHUFFLE(in[r], in[r + 1], 0, 8, 1, 9, 4, 12, 5, 13);
                half[r + 1] = SHUFFLE(in[r], in[r + 1], 2, 10, 3, 11, 6, 14, 7, 15);
            }
            for (int r = 0; r < 8; r += 4) { /* quadruples */
                for (int e = 0; e < 2; e++) {
                    quarter[r + 2 * e] = SHUFFLE(half[r + e], half[r + 2 + e], 0, 1, 8, 9, 4, 5, 12, 13);
                    quarter[r + 2 * e + 1] = SHUFFLE(half[r + e], half[r + 2 + e], 2, 3, 10, 11, 6, 7, 14, 15);
                }
            }
            for (int e = 0; e < 4; e++) {
                Floats *out = (Floats *)(s->hidden + (c + e) * TILE + i);
                out[0] = SHUFFLE(quarter[e], quarter[e + 4], 0, 1, 2, 3, 8, 9, 10, 11);
                out[4 * TILE / 8] = SHUFFLE(quarter[e], quarter[e + 4], 4, 5, 6, 7, 12, 13, 14, 15);
            }
        }
    }
}

/* Apply the last layer in float32 to a tile. */
INLINE void sum_logits(struct scratch *s) {
    const float *weight = s->rule.output;
    for (int64_t n = 0; n < s->rule.padded; n += STATES) {
        Floats low[STATES] = {{0}}, high[STATES] = {{0}};
        const Floats *hidden = (const Floats *)s->hidden;
        for (int64_t c = 0; c < s->rule.channels; c++, weight += STATES, hidden += 2) {
            for (int j = 0; j < STATES; j++) {
                low[j] += weight[j] * hidden[0], high[j] += weight[j] * hidden[1];
            }
        }
        Floats *out = (Floats *)(s->logits + n * TILE);
        for (int j = 0; j < STATES; j++) {
            out[2 * j] = low[j], out[2 * j + 1] = high[j];
        }
    }
}

INLINE Floats choose(Ints mask, Floats yes, Floats no) { return (Floats)((mask & (Ints)yes) | (~mask & (Ints)no)); }

/* Turn the logits in `column` (units of 2^-40) into the cumulative weights of the `count` states in `choice`. */
INLINE void weigh(struct scratch *s, const struct plan *plan, int64_t count, double temperature) {
    const Longs order = {0, 1, 2, 3};
    double top = s->column[0];
    for (int64_t j = 1; j < count; j++) {
        top = s->column[j] > top ? s->column[j] : top;
    }
    int64_t total = 0;
    for (int64_t j = 0; j < count; j += 4) {
        Doubles x = (top - *(const Doubles *)(s->column + j)) * 0x1p-40 / temperature, whole;
        Longs weighs = (x < plan->no_weight) & (order < count - j);
        Doubles value = exp_parts((Doubles)((Longs)x & weighs), &whole, plan->exp_terms) * 0x1p48;
        value = (Doubles)((Longs)value & weighs);
        for (int i = 0; i < 4; i++) {
            s->weights[j + i] = total += (int64_t)value[i] >> (int64_t)whole[i];
        }
    }
    s->choices = round_up(count, 4);
}

/* Return the state that `word` picks: as many weights are at most the point as come before it. */
INLINE uint8_t draw(const struct scratch *s, uint64_t word) {
    int64_t point = multiply_high(word, (uint64_t)s->weights[s->choices - 1]), before = 0;
    for (int64_t i = 0; i < s->choices; i += 4) { /* by fours, so that the branch can be foretold */
        before += (s->weights[i] <= point) + (s->weights[i + 1] <= point);
        before += (s->weights[i + 2] <= point) + (s->weights[i + 3] <= point);
    }
    return s->choice[before];
}

/* Return the exact logit of a state: float64 holds every partial sum. */
INLINE double exact_logit(const struct scratch *s, uint8_t state) {
    const Doubles *unit = (const Doubles *)s->units;
    const Doubles *weight = (const Doubles *)(s->rule.exact + state * s->rule.channels);
    Doubles sum = {0};
    for (int64_t c = 0; c < s->rule.channels / 4; c++) {
        sum += unit[c] * weight[c];
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Decide a cell of the tile again: exact logits of the states in question, integer weights, one random word. */
INLINE uint8_t decide_exactly(struct scratch *s, const struct plan *plan, int64_t lane, float best, uint64_t word) {
    int64_t count = 0;
    for (int64_t n = 0; n < s->rule.states; n++) { /* the others are below the best by more than the threshold */
        s->choice[count] = (uint8_t)n;
        count += best - s->logits[n * TILE + lane] < s->rule.threshold;
    }
    for (int i = 0; i < 4; i++) {
        s->choice[count + i] = s->choice[0];
    }
    for (int64_t c = 0; c < s->rule.channels; c++) {
        int32_t sum = s->rows[lane * s->rule.channels + c];
        s->units[c] = sum > 0 ? sum : 0;
    }
    for (int64_t j = 0; j < count; j += 4) {
        const uint8_t *at = s->choice + j;
        *(Doubles *)(s->column + j) = (Doubles){exact_logit(s, at[0]), exact_logit(s, at[1]), exact_logit(s, at[2]),
                                                exact_logit(s, at[3])};
    }
    if (plan->temperature > 0) {
        weigh(s, plan, count, plan->temperature);
        return draw(s, word);
    }
    int64_t first = 0;
    for (int64_t j = 1; j < count; j++) {
        first = s->column[j] > s->column[first] ? j : first;
    }
    return s->choice[first];
}

/* Write the next states of a tile: the argmax (ties to the lowest state), and cells in doubt by `decide_exactly`. */
INLINE void decide(struct scratch *s, const struct plan *plan, const uint64_t *number, uint32_t step, int64_t start) {
    int32_t name[TILE], unclear[TILE];
    float top[TILE];
    for (int v = 0; v < TILE / 8; v++) {
        const Floats *logits = (const Floats *)s->logits + v;
        Floats best = logits[0], second = best - best - 0x1p100f;
        Ints index = {0};
        for (int64_t n = 1; n < s->rule.states; n++) {
            Floats value = logits[n * TILE / 8];
            Ints above = value > best;
            Floats loser = choose(above, best, value);
            best = choose(above, value, best);
            second = choose(loser > second, loser, second);
            index = (above & (int32_t)n) | (~above & index);
        }
        memcpy(top + 8 * v, &best, sizeof best);
        memcpy(name + 8 * v, &index, sizeof index);
        index = best - second < s->rule.threshold;
        memcpy(unclear + 8 * v, &index, sizeof index);
    }
    uint32_t doubt[TILE + LANES] = {0};
    int64_t doubts = 0, cells = plan->height * plan->width;
    for (int i = 0; i < TILE; i++) {
        s->state[start + i] = (uint8_t)name[i];
        doubt[doubts] = (uint32_t)(start + i);
        doubts -= unclear[i] & -(start + i < cells);
    }
    uint64_t first[LANES] = {0}, second[LANES];
    for (int64_t i = 0; i < doubts; i++) {
        if (i % LANES == 0 && plan->temperature > 0) {
            philox(first, second, plan->key, number, step, doubt + i);
        }
        int64_t lane = doubt[i] - start;
        s->state[doubt[i]] = decide_exactly(s, plan, lane, top[lane], first[i % LANES]);
    }
}

INLINE void advance(struct scratch *s, const struct plan *plan, const uint64_t *number, uint32_t step) {
    int64_t cells = plan->height * plan->width;
    place(s, plan);
    for (int64_t start = 0; start < cells; start += TILE) {
        sum_rows(s, plan->side * plan->side, start);
        transpose(s);
        sum_logits(s);
        decide(s, plan, number, step, start);
    }
}

INLINE void fill_initial(struct scratch *s, const struct plan *plan, const uint64_t *number) {
    int64_t states = plan->states, cells = plan->height * plan->width;
    uint64_t first[LANES], second[LANES];
    uint32_t cell[LANES];
    for (int64_t state = 0; state < states; state++) {
        s->choice[state] = (uint8_t)state;
    }
    if (plan->uniform) {
        for (int64_t state = 0; state < states; state++) {
            s->weights[state] = state + 1;
        }
        for (int64_t state = states; state < round_up(states, 4); state++) {
            s->weights[state] = states;
        }
        s->choices = round_up(states, 4);
    } else {
        fill_normals(s->column, states, plan, number, 0xFFFFFFFFu, plan->normal_range);
        for (int64_t state = 0; state < states; state++) {
            s->column[state] *= 0x1p40;
        }
        weigh(s, plan, states, 1.0);
    }
    for (int64_t start = 0; start < cells; start += LANES) {
        for (int i = 0; i < LANES; i++) {
            cell[i] = (uint32_t)(start + i);
        }
        philox(first, second, plan->key, number, 0, cell);
        for (int64_t i = 0; i < LANES && start + i < cells; i++) {
            s->state[start + i] = draw(s, first[i]);
        }
    }
}

/* ---- entry points ------------------------------------------------------------------------------------------------ */

__attribute__((visibility("default"))) int64_t nca_abi(void) { return ABI; }

/* The error bound B of a rule, in units of 2^-40; -1 where there is no memory. For tests. */
__attribute__((visibility("default"))) double nca_error_bound(const int32_t *table, const int32_t *output,
                                                              const struct plan *plan) {
    double *sums = malloc((size_t)plan->states * sizeof(double));
    double bound = sums == NULL ? -1.0 : error_bound(plan, table, output, sums);
    free(sums);
    return bound;
}

/* Fill kept (B, F, S) with the frames of B rollouts; -1 where there is no memory. */
EXPORT int64_t nca_rollout(uint8_t *kept, const int32_t *tables, const int32_t *outputs, const uint64_t *numbers,
                           const struct plan *plan, int64_t batch) {
    struct scratch s;
    int64_t bytes = lay_out(&s, plan, NULL), cells = plan->height * plan->width, side = plan->side;
    int64_t table = side * side * plan->states * plan->channels, output = plan->states * plan->channels;
    char *arena = calloc(1, (size_t)bytes + 64);
    if (arena == NULL) {
        return -1;
    }
    lay_out(&s, plan, (char *)round_up((int64_t)(intptr_t)arena, 64));
    for (int64_t k = 0; k < side * side; k++) {
        s.window[k] = s.placed + k % side * s.copy + TILE + k / side * plan->width;
    }
    for (int64_t b = 0; b < batch; b++, numbers += 2) {
        load_rule(&s, plan, tables + b * table, outputs + b * output);
        fill_initial(&s, plan, numbers);
        int64_t last = plan->burn_in + (plan->frames - 1) * plan->stride;
        for (int64_t step = 0; step <= last; step++) {
            if (step > 0) {
                advance(&s, plan, numbers, (uint32_t)step);
            }
            if (step >= plan->burn_in && (step - plan->burn_in) % plan->stride == 0) {
                memcpy(kept, s.state, (size_t)cells);
                kept += cells;
            }
        }
    }
    free(arena);
    return 0;
}

/* Merge the two linear maps in channel order and round to fixed point; as reference.merge. */
INLINE void merge(int32_t *restrict table, double *restrict row, const double *restrict first,
                  const double *restrict second, const struct plan *plan) {
    int64_t inputs = plan->inputs, linear = plan->linear, channels = plan->channels, states = plan->states;
    int64_t skip = (inputs - states) / 2;
    for (int64_t entry = 0; entry < inputs; entry++) {
        double *sum = row + entry * channels;
        for (int64_t l = 0; l < linear; l++) {
            double factor = first[entry * linear + l];
            const double *map = second + l * channels;
            for (int64_t c = 0; c < channels; c++) {
                sum[c] = l == 0 ? factor * map[c] : sum[c] + factor * map[c];
            }
        }
    }
    for (int64_t c = 0; c < channels && skip > 0; c++) {
        row[states * channels + c] += row[c];
        row[channels + c] += row[(states + 1) * channels + c];
    }
    for (int64_t i = 0; i < states * channels; i++) { /* adding 1.5 2^52 rounds to the nearest integer, ties to even */
        table[i] = (int32_t)((row[skip * channels + i] * 0x1p20 + 0x1.8p52) - 0x1.8p52);
    }
}

/* Draw B candidates: kernels times `scales` (one per layer), then tables (B, K, N, C) and outputs (B, C, N). */
EXPORT int64_t nca_draw_rules(int32_t *tables, int32_t *outputs, const uint64_t *numbers, const struct plan *plan,
                              const double *scales, int64_t batch) {
    int64_t window = plan->side * plan->side, channels = plan->channels, states = plan->states;
    int64_t sizes[3] = {window * plan->inputs * plan->linear, plan->linear * channels, channels * states};
    int64_t count = sizes[0] + sizes[1] + sizes[2];
    double *flat = malloc((size_t)(count + LANES + plan->inputs * channels) * sizeof(double));
    if (flat == NULL) {
        return -1;
    }
    double *row = flat + count + LANES, *second = flat + sizes[0], *third = second + sizes[1];
    for (int64_t b = 0; b < batch; b++, numbers += 2) {
        fill_normals(flat, count, plan, numbers, 0, 2.0);
        for (int64_t layer = 0, i = 0, end = 0; layer < 3; layer++) {
            for (end += sizes[layer]; i < end; i++) {
                flat[i] *= scales[layer];
            }
        }
        for (int64_t k = 0; k < window; k++, tables += states * channels) {
            merge(tables, row, flat + k * plan->inputs * plan->linear, second, plan);
        }
        for (int64_t i = 0; i < sizes[2]; i++) {
            *outputs++ = (int32_t)((third[i] * 0x1p20 + 0x1.8p52) - 0x1.8p52);
        }
    }
    free(flat);
    return 0;
}

/* Fill (B, T) with the first words of blocks (a, b, 0, position). */
EXPORT void nca_words(uint64_t *out, const uint64_t *numbers, const uint64_t *key, int64_t count, int64_t batch) {
    uint64_t first[LANES], second[LANES];
    uint32_t position[LANES];
    for (int64_t b = 0; b < batch; b++, numbers += 2) {
        for (int64_t start = 0; start < count; start += LANES) {
            for (int i = 0; i < LANES; i++) {
                position[i] = (uint32_t)(start + i);
            }
            philox(first, second, key, numbers, 0, position);
            int64_t left = count - start < LANES ? count - start : LANES;
            memcpy(out, first, (size_t)left * sizeof *out);
            out += left;
        }
    }
}

/* Fill (frames, P) with the tokens of frames (frames, H, W); as tokens.patch_tokens. */
EXPORT void nca_patch_tokens(int32_t *tokens, const uint8_t *cells, int64_t frames, const int64_t *shape) {
    int64_t height = shape[0], width = shape[1], patch = shape[2], states = shape[3];
    for (int64_t f = 0; f < frames; f++, cells += height * width) {
        for (int64_t y = 0; y < height; y += patch) {
            for (int64_t x = 0; x < width; x += patch) {
                int32_t token = 0;
                for (int64_t row = y + patch - 1; row >= y; row--) {
                    for (int64_t column = x + patch - 1; column >= x; column--) {
                        token = token * (int32_t)states + cells[row * width + column];
                    }
                }
                *tokens++ = token;
            }
        }
    }
}
