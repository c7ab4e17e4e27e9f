/* What one core can do at most, for roofline.py: multiply and add in float32, and add vectors read from the first-level
 * cache. Compiled on the machine that runs it. */
#include <stdint.h>

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));

/* 12 x 8 multiplications and additions a round, in 12 chains. */
float multiply_add(int64_t rounds, float factor, float term) {
    Floats sum[12];
    float total = 0;
    for (int i = 0; i < 12; i++) {
        sum[i] = (Floats){0} + (float)i;
    }
    for (int64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < 12; i++) {
            sum[i] = sum[i] * factor + term;
        }
    }
    for (int i = 0; i < 12; i++) {
        total += sum[i][0];
    }
    return total;
}

/* 8 x 32 bytes read and added a round, from 8 KB. */
int32_t read_add(int64_t rounds, const int32_t *table) {
    Ints sum[8] = {{0}};
    int32_t total = 0;
    for (int64_t r = 0; r < rounds; r++) {
        const Ints *at = (const Ints *)table + r % 32 * 8;
        for (int i = 0; i < 8; i++) {
            sum[i] += at[i];
        }
    }
    for (int i = 0; i < 8; i++) {
        total += sum[i][0];
    }
    return total;
}
