"""Faults of the schema: top-level keys, names, axes, claims, `run`."""

from __future__ import annotations

from tests.sweeps.bad import Bad, Want, one

MISSING = "this key is missing"
LONG = "a" * 65

TOP = [
    one("unknown_key", "question: What?", "qestion: What?", "qestion", "", "unknown key", "Did you mean 'question'?"),
    one("unknown_key_without_a_near_one", "question: What?", "zzzz: 1", "zzzz", "", "known: axes, baseline"),
    one("scalar_for_the_file", "", "just words\n", "file", "'just words'", "is not a mapping"),
    one("list_for_the_file", "", "- name: x\n", "file", "[{'name': 'x'}]", "is not a mapping"),
    one("version_missing", "schema_version: 1\n", "", "schema_version", "", MISSING, "schema_version: 1"),
    one("version_zero", "schema_version: 1", "schema_version: 0", "schema_version", "0", "known: 1"),
    one("version_of_the_future", "schema_version: 1", "schema_version: 2", "schema_version", "2", "newer release"),
    one("version_as_text", "schema_version: 1", 'schema_version: "1"', "schema_version", "'1'", "Did you mean 1?"),
    one("version_true", "schema_version: 1", "schema_version: true", "schema_version", "true", "known: 1"),
    one("version_null", "schema_version: 1", "schema_version:", "schema_version", "null", "known: 1"),
    one("name_missing", "name: base\n", "", "name", "", MISSING, line=-1),
    one("name_escapes", "name: base", "name: ../../x", "name", "'../../x'", "pattern", "Did you mean 'x'?"),
    one("name_absolute", "name: base", "name: /etc/passwd", "name", "'/etc/passwd'", "Did you mean 'etc_passwd'?"),
    one("name_empty", "name: base", 'name: ""', "name", "''", "1 to 64"),
    one("name_null", "name: base", "name:", "name", "null", "must be text"),
    one("name_dot_dot", "name: base", "name: ..", "name", "'..'", "the first a letter or digit"),
    one("name_too_long", "name: base", f"name: {LONG}", "name", f"'{LONG}'", "1 to 64", f"'{LONG[:64]}'"),
    one("name_control", "name: base", 'name: "a\\e[31mb"', "name", r"'a\x1b[31mb'", "Did you mean 'a_31mb'?"),
    one("name_newline", "name: base", 'name: "a\\nb"', "name", r"'a\nb'", "Did you mean 'a_b'?"),
    one("name_unicode", "name: base", "name: größe", "name", "'größe'", "letters A-Z a-z"),
    one("name_number", "name: base", "name: 2024", "name", "2024", "must be text", "quotes"),
    one("name_list", "name: base", "name: [a]", "name", "['a']", "must be text"),
    one("scale_unknown", "scale: tiny", "scale: tyni", "scale", "'tyni'", "1.6b", "Did you mean 'tiny'?"),
    one("scale_number", "scale: tiny", "scale: 400", "scale", "400", "must be text"),
    one("protocol_unknown", "protocol: fair", "protocol: fairr", "protocol", "'fairr'", "known: fair, paper, release",
        "Did you mean 'fair'?"),
    one("baseline_off_the_axis", "{upstream: none}", "{upstream: nca_shuffled}", "baseline.upstream", "'nca_shuffled'",
        "must be on the axis upstream", "known: nca, none"),
    one("baseline_unknown_key", "{upstream: none}", "{upstraem: none}", "baseline.upstraem", "",
        "Did you mean 'upstream'?"),
    one("baseline_as_text", "baseline: {upstream: none}", "baseline: none", "baseline", "'none'", "must be a mapping"),
    one("plugins_as_text", "run: {cluster: local}", "plugins: mine.py", "plugins", "'mine.py'", "must be a list"),
    one("gate_unknown", "protocol: fair", "gate: required", "gate", "'required'", "known: report, require",
        "Did you mean 'require'?"),
    one("gate_as_a_condition", "protocol: fair", "gate: true", "gate", "true", "known: report, require"),
    one("question_list", "question: What?", "question: [a]", "question", "['a']", "must be text"),
]

AXES = [
    Bad("axes_missing", "axes:\n  upstream", "axis:\n  upstream", [
        Want("axes", "", [MISSING], -6), Want("axis", "", ["Did you mean 'axes'?"], 0)]),
    one("axes_list", "", "schema_version: 1\nname: a\naxes: [upstream, domain]\n", "axes", "['upstream', 'domain']",
        "must be a mapping", line=2),
    one("axes_null", "", "schema_version: 1\nname: a\naxes:\n", "axes", "null", "must be a mapping", line=2),
    one("axes_text", "", "schema_version: 1\nname: a\naxes: all\n", "axes", "'all'", "must be a mapping", line=2),
    one("axis_missing", "  domain: [web, code]\n", "", "axes.domain", "", "'domain' is missing", line=-4),
    one("axis_empty", "[web, code]", "[]", "axes.domain", "[]", "'domain' is empty", "at least one"),
    one("axis_null", "[web, code]", "", "axes.domain", "null", "list of values"),
    one("axis_scalar", "[web, code]", "web", "axes.domain", "'web'", "did you mean domain: [web]?"),
    one("axis_mapping", "[web, code]", "{web: 1}", "axes.domain", "{'web': 1}", "list of values"),
    one("axis_null_value", "[web, code]", "[web, ]\n  pretrain.clip: [1, null]", "axes.pretrain.clip.1", "null",
        "an empty value", line=1),
    one("axis_unknown", "  token_budget: [1x]", "  token_bugdet: [1x]", "axes.token_bugdet", "", "unknown axis",
        "Did you mean 'token_budget'?"),
    one("axis_twice_a_value", "[web, code]", "[web, code, web]", "axes.domain.2", "'web'", "twice"),
    one("axis_equal_numbers", "seed: [0, 1]", "seed: [0]\n  pretrain.clip: [1, 1.0]", "axes.pretrain.clip.1", "1.0",
        "twice", line=1),
    one("upstream_unknown", "[none, nca]", "[none, ncaa]", "axes.upstream", "'ncaa'", "unknown upstream",
        "shuffle_dyck", "Did you mean 'nca'?"),
    one("upstream_mapping", "[none, nca]", "[none, {nca: 1}]", "axes.upstream", "{'nca': 1}", "unknown upstream"),
    one("domain_unknown", "[web, code]", "[web,\n           wbe]", "axes.domain", "'wbe'", "code, codeparrot",
        "Did you mean 'web'?", line=1),
    one("band_upside_down", "[30-45, 60-75]", "[30-45, 60-30]", "axes.complexity", "'60-30'", "LOW < HIGH", "30-45"),
    one("band_above_100", "[30-45, 60-75]", "[60-175]", "axes.complexity", "'60-175'", "<= 100"),
    one("band_is_a_number", "[30-45, 60-75]", "[30]", "axes.complexity", "30", "must be text"),
    one("band_is_a_word", "[30-45, 60-75]", "[high]", "axes.complexity", "'high'", "LOW-HIGH"),
    one("band_twice_in_two_spellings", "[30-45, 60-75]", "[30-45, 30.0-45]", "axes", "'nca 30.0-45'",
        "same experiment as the arm 'nca 30-45'", line=-2),
    one("budget_in_small_letters", "[1x]", "[164m]", "axes.token_budget", "'164m'", "Did you mean '164M'?"),
    one("budget_negative", "[1x]", "[-1x]", "axes.token_budget", "'-1x'", "not an amount", "0.25x"),
    one("budget_zero", "[1x]", "[0x]", "axes.token_budget", "'0x'", "above 0"),
    one("budget_nan", "[1x]", "[.nan]", "axes.token_budget", "nan", "finite"),
    one("budget_infinite", "[1x]", "[1x, .inf]", "axes.token_budget", "inf", "finite"),
    one("budget_share", "[1x]", "[5%]", "axes.token_budget", "'5%'", "a share has no meaning here"),
    one("budget_huge", "[1x]", "[1e30x]", "axes.token_budget", "'1e30x'", "between 1e-18 and 1e18"),
    one("budget_exponent_bomb", "[1x]", "[1e999999999x]", "axes.token_budget", "'1e999999999x'", "between 1e-18"),
    one("budget_beyond_the_rule_blocks", "[1x]", "[1000T]", "axes.token_budget", "'1000T'", "the most is"),
    one("budget_below_one_update", "[1x]", "[100]", "axes.token_budget", "100", "less than one update of 1024"),
    one("budget_twice_in_two_spellings", "[1x]", "[1x, 300k]", "axes.token_budget", "'300k'",
        "same budget as 1x: 300,000"),
    one("budget_true", "[1x]", "[true]", "axes.token_budget", "true", "not an amount"),
    one("seed_negative", "seed: [0, 1]", "seed: [0, -1]", "axes.seed.1", "-1", "whole number from 0"),
    one("seed_float", "seed: [0, 1]", "seed: [0.5]", "axes.seed.0", "0.5", "whole number from 0"),
    one("seed_true", "seed: [0, 1]", "seed: [true]", "axes.seed.0", "true", "whole number from 0"),
    one("seed_text", "seed: [0, 1]", 'seed: ["0"]', "axes.seed.0", "'0'", "whole number from 0"),
    one("seed_too_large", "seed: [0, 1]", "seed: [4294967296]", "axes.seed.0", "4294967296", "4,294,967,295"),
    one("seed_twice", "seed: [0, 1]", "seed: [0, 0]", "axes.seed.1", "0", "twice"),
    one("seeds_too_many", "seed: [0, 1]", f"seed: {list(range(10_001))}", "axes.seed", "'10,001 seeds'",
        "at most 10,000"),
    one("grid_too_large", "seed: [0, 1]", f"seed: {list(range(500))}\n  pretrain.clip: {list(range(200))}", "axes",
        "'600,000 trials'", "at most 100,000", "seed 500", line=-5),
    one("dotted_axis_of_no_section", "seed: [0, 1]", "seed: [0]\n  pretrian.lr: [1, 2]", "axes.pretrian.lr", "",
        "Did you mean 'pretrain'?", line=1),
    one("dotted_axis_of_no_field", "seed: [0, 1]", "seed: [0]\n  pretrain.lrr: [1, 2]", "axes.pretrain.lrr", "",
        "unknown key", "Did you mean 'lr'?", line=1),
    one("dotted_axis_with_a_bad_value", "seed: [0, 1]", "seed: [0]\n  model.layers: [2,\n    two]", "axes.model.layers",
        "'two'", "whole number", line=2),
    one("axis_and_field", "seed: [0, 1]", "seed: [0]\n  pretrain.lr: [1e-3]", "fields.pretrain.lr", "0.0005",
        "is an axis of this sweep too", line=3),
    one("axis_and_the_field_behind_it", "  pretrain.lr: 5e-4", "  nca.complexity.band: 30-45",
        "fields.nca.complexity.band", "", "is what the axis complexity sets"),
]

CLAIMS = [
    one("claims_list", "claims:\n  helps", "claims:\n  - helps", "claims", "[{'helps':", "must be a mapping"),
    one("claim_as_text", '{domain: web, arm: best_band, gain_nats: "> 0"}', "yes", "claims.helps", "'yes'",
        "no claim that can be judged", "beats scratch on web"),
    one("claim_that_states_nothing", 'arm: best_band, gain_nats: "> 0"', "arm: best_band", "claims.helps", "{'domain':",
        "one of the two"),
    one("claim_in_words_of_an_unknown_domain", '{domain: web, arm: best_band, gain_nats: "> 0"}',
        "best band on web is lower than on law", "claims.helps.than", "'law'", "known: code, web"),
    one("claim_in_words_of_an_unknown_arm", '{domain: web, arm: best_band, gain_nats: "> 0"}',
        "nca 30-54 beats scratch on web", "claims.helps.arm", "'nca 30-54'", "Did you mean 'nca 30-45'?"),
    one("claim_without_domain", "domain: web, ", "", "claims.helps.domain", "", MISSING),
    one("claim_unknown_key", "arm: best_band", "amr: best_band, arm: best_band", "claims.helps.amr", "",
        "Did you mean 'arm'?"),
    one("claim_unknown_domain", "domain: web", "domain: math", "claims.helps.domain", "'math'", "known: code, web"),
    one("claim_unknown_arm", "arm: best_band", "arm: nca 30-55", "claims.helps.arm", "'nca 30-55'", "best_band",
        "Did you mean 'nca 30-45'?"),
    one("claim_over_nothing", "arm: best_band", "arm: best_band, over: basline", "claims.helps.over", "'basline'",
        "Did you mean 'baseline'?"),
    one("claim_gain_is_a_number", 'gain_nats: "> 0"', "gain_nats: 0", "claims.helps.gain_nats", "0", "must be text"),
    one("claim_gain_without_direction", '"> 0"', '"0.1"', "claims.helps.gain_nats", "'0.1'", '"> 0"'),
    one("claim_gain_of_two_points", '"> 0"', '"> 1.2.3"', "claims.helps.gain_nats", "'> 1.2.3'", '"> 0"'),
    one("claim_gain_unquoted", '"> 0"', "> 0", "file", "'helps: {domain: web,", "quotes"),
]

RUN = [
    one("run_as_text", "{cluster: local}", "local", "run", "'local'", "must be a mapping"),
    one("run_unknown_key", "{cluster: local}", "{clutser: local}", "run.clutser", "", "Did you mean 'cluster'?"),
    one("run_cluster_is_a_path", "{cluster: local}", "{cluster: a/b}", "run.cluster", "'a/b'", "Did you mean 'a_b'?"),
    one("run_slots_zero", "{cluster: local}", "{slots: 0}", "run.slots", "0", "greater than or equal to 1"),
    one("run_slots_text", "{cluster: local}", "{slots: many}", "run.slots", "'many'", "whole number"),
    one("run_ranks_half", "{cluster: local}", "{ranks: 1.5}", "run.ranks", "1.5", "whole number"),
    one("run_zero_stage_4", "{cluster: local}", "{zero_stage: 4}", "run.zero_stage", "4", "less than or equal to 3"),
    one("run_offload_unknown", "{cluster: local}", "{offload: optimiser}", "run.offload", "'optimiser'",
        "Did you mean 'optimizer'?"),
    one("run_recompute_as_text", "{cluster: local}", "{activation_checkpointing: full}",
        "run.activation_checkpointing", "'full'", "must be true or false"),
    one("run_keep_none", "{cluster: local}", "{keep_checkpoints: 0}", "run.keep_checkpoints", "0",
        "greater than or equal to 1"),
    one("run_keep_at_a_share", "{cluster: local}", "{keep_at: [10M, 50%]}", "run.keep_at.1", "'50%'",
        "a share means nothing here"),
    one("run_policy_unknown_class", "{cluster: local}", "{policy: {unknwon: 2}}", "run.policy.unknwon", "",
        "Did you mean 'unknown'?"),
    one("run_policy_no_try", "{cluster: local}", "{policy: {code: 0}}", "run.policy.code", "0",
        "greater than or equal to 1"),
    one("run_policy_gpu", "{cluster: local}", "{policy: {oom_gpu: half}}", "run.policy.oom_gpu", "'half'",
        "known: halve, stop"),
    one("run_policy_breaker_of_one", "{cluster: local}", "{policy: {breaker: 1}}", "run.policy.breaker", "1",
        "greater than or equal to 2"),
    one("run_time_without_unit", "{cluster: local}", "{checkpoint_every: 120}", "run.checkpoint_every", "120", "2 min"),
    one("run_time_unknown_unit", "{cluster: local}", "{pack: 2 minutes}", "run.pack", "'2 minutes'",
        "Did you mean '2 min'?"),
    one("run_gpu_hours_zero", "{cluster: local}", "{max_gpu_hours: 0}", "run.max_gpu_hours", "0", "greater than 0"),
    one("run_gpu_hours_true", "{cluster: local}", "{max_gpu_hours: true}", "run.max_gpu_hours", "true", "a number"),
    one("run_at_cap_unknown", "{cluster: local}", "{at_cap: dran}", "run.at_cap", "'dran'", "Did you mean 'drain'?"),
    one("run_pack_of_nothing", "{cluster: local}", "{pack: 0}", "run.pack", "0", "a whole number of stages such as 20"),
    one("run_pack_of_half_a_stage", "{cluster: local}", "{pack: 2.5}", "run.pack", "2.5", "a whole number of stages"),
    one("run_micro_batch_text", "{cluster: local}", "{micro_batch: fast}", "run.micro_batch", "'fast'", "or auto"),
    one("run_micro_batch_none", "{cluster: local}", "{micro_batch: 0}", "run.micro_batch", "0", "1 or above"),
    one("run_time_bomb", "{cluster: local}", "{pack: 1e99999999 h}", "run.pack", "'1e99999999 h'", "between 1e-18"),
]

SEVERAL = [
    Bad("everything_of_the_schema_at_once_in_the_order_of_the_file", "", """\
schema_version: 3
name: a b
qestion: x
scale: huge
protocol: papr
axes:
  upstream: [none]
  domain: [web, web]
  seed: [-1, x]
run:
  slots: -1
  clutser: local
""", [
        Want("schema_version", "3", ["newer release"], 0),
        Want("name", "'a b'", ["Did you mean 'a_b'?"], 1),
        Want("qestion", "", ["Did you mean 'question'?"], 2),
        Want("scale", "'huge'", ["1.6b"], 3),
        Want("protocol", "'papr'", ["Did you mean 'paper'?"], 4),
        Want("axes.domain.1", "'web'", ["twice"], 7),
        Want("axes.seed.0", "-1", ["whole number"], 8),
        Want("axes.seed.1", "'x'", ["whole number"], 8),
        Want("run.slots", "-1", ["greater than or equal to 1"], 10),
        Want("run.clutser", "", ["Did you mean 'cluster'?"], 11),
    ]),
    Bad("everything_of_the_grid_at_once", "", """\
schema_version: 1
name: a
axes:
  upstream: [none, ncaa]
  domain: [wbe]
  colour: [red]
  token_budget: [-1]
  seed: [0]
fields:
  pretrian.lr: 1
  nca.gird.width: 8
""", [
        Want("axes.upstream", "'ncaa'", ["Did you mean 'nca'?"], 3),
        Want("axes.domain", "'wbe'", ["Did you mean 'web'?"], 4),
        Want("axes.colour", "", ["unknown axis"], 5),
        Want("axes.token_budget", "-1", ["not an amount"], 6),
        Want("fields.pretrian.lr", "", ["Did you mean 'pretrain'?"], 9),
        Want("fields.nca.gird.width", "", ["Did you mean 'grid'?"], 10),
    ]),
]
BETWEEN = [
    Bad("schema_and_grid_at_once", "", """\
schema_version: 1
name: a b
axes:
  upstream: [none, nca]
  domain: [wbe]
  seed: [0]
fields:
  pretrain.lr: fast
""", [
        Want("name", "'a b'", ["Did you mean 'a_b'?"], 1),
        Want("axes.domain", "'wbe'", ["Did you mean 'web'?"], 4),
        Want("fields.pretrain.lr", "'fast'", ["must be a number"], 7),
    ]),
    one("cluster_unknown", "{cluster: local}", "{cluster: lcoal}", "run.cluster", "'lcoal'", "Did you mean 'local'?"),
    one("offload_of_zero_0", "{cluster: local}", "{offload: optimizer}", "run.offload", "'optimizer'",
        "needs run.zero_stage 1, 2 or 3"),
    one("offload_of_whole_parameters", "{cluster: local}", "{zero_stage: 2, offload: optimizer+parameters}",
        "run.offload", "'optimizer+parameters'", "needs run.zero_stage 3, this is 2"),
    Bad("compiled_under_zero_3", "{cluster: local}", "{zero_stage: 3}",
        [Want("run.zero_stage", "3", ["engine.compile needs ZeRO stage 0, 1 or 2"])], ["--set", "engine.compile=true"]),
    Bad("bf16_under_zero_0", "{cluster: local}", "{zero_stage: 0}",
        [Want("run.zero_stage", "0", ["bf16 needs ZeRO stage 1, 2 or 3"])], ["--set", "engine.precision=bf16"]),
    one("ranks_that_do_not_divide", "{cluster: local}", "{cluster: memory, ranks: 3}", "run.ranks", "3",
        "must divide prepretrain.batch_sequences = 4"),
    one("ranks_of_one_machine", "{cluster: local}", "{ranks: 2}", "run.ranks", "2", "jobs of one process, not of 2"),
]
"""What needs the schema's problems and the grid's in one answer, or the machine's profiles."""

CASES = [*TOP, *AXES, *CLAIMS, *RUN, *SEVERAL]
