"""Faults of science fields (every kind of value), and of the command line's flags."""

from __future__ import annotations

from tests.sweeps.bad import Bad, Want, one

OLD = "pretrain.lr: 5e-4"


def field(name: str, key: str, value: str, given: str, *says: str) -> Bad:
    """Return a file with one field at fault."""
    return one(name, OLD, f"{key}: {value}", f"fields.{key}", given, *says)


FIELDS = [
    one("fields_list", "fields:\n  pretrain.lr: 5e-4", "fields: [1]", "fields", "[1]", "must be a mapping"),
    one("fields_text", "fields:\n  pretrain.lr: 5e-4", "fields: fast", "fields", "'fast'", "must be a mapping"),
    one("field_without_a_section", OLD, "lr: 5e-4", "fields.lr", "", "its first part must name a section or plug-in"),
    one("field_of_a_near_section", OLD, "pretrian.lr: 1", "fields.pretrian.lr", "", "Did you mean 'pretrain'?"),
    one("field_of_a_near_name", OLD, "pretrain.lrr: 1", "fields.pretrain.lrr", "", "Did you mean 'lr'?"),
    one("field_below_a_field", OLD, "pretrain.lr.x: 1", "fields.pretrain.lr.x", "1", "leave it out"),
    one("field_of_a_plug_in_that_no_trial_uses", OLD, "shuffle_dyck.depht: 1", "fields.shuffle_dyck.depht", "",
        "unknown key"),
    one("field_of_a_domain", OLD, "web.x: 1", "fields.web.x", "", "unknown key"),
    one("section_without_a_field", OLD, "pretrain: {lr: 5e-4}", "fields.pretrain", "{'lr': 0.0005}", "dotted name"),
    one("section_with_a_dot_and_no_field", OLD, "pretrain.: 1", "fields.pretrain.", "1", "dotted name", "pretrain.lr"),
    one("field_with_an_empty_part", OLD, "nca..grid: 1", "fields.nca..grid", "1", "dotted name"),
    one("fields_below_a_field_as_a_mapping", OLD, "nca.complexity: {trials: 2}", "fields.nca.complexity",
        "{'trials': 2}", "complexity.trials: VALUE"),
    one("number_for_fields_of_their_own", OLD, "nca.grid: 8", "fields.nca.grid", "8", "grid.height: VALUE"),
    Bad("field_whole_and_in_parts", OLD, "nca.grid: 8\n  nca.grid.width: 8", [
        Want("fields.nca.grid", "8", ["VALUE"], 0),
        Want("fields.nca.grid.width", "", ["nca.grid is given as a whole too"], 1)]),
    field("word_for_a_number", "pretrain.lr", "fast", "'fast'", "must be a number"),
    field("nothing_for_a_number", "pretrain.lr", "", "null", "must be a number"),
    field("list_for_a_number", "pretrain.lr", "[1e-3]", "[0.001]", "must be a number"),
    field("true_for_a_number", "pretrain.lr", "true", "true", "must be a number"),
    field("zero_for_a_positive_number", "pretrain.lr", "0", "0", "greater than 0"),
    field("negative_for_a_positive_number", "pretrain.lr", "-1e-3", "-0.001", "greater than 0"),
    field("nan", "pretrain.lr", ".nan", "nan", "finite"),
    field("infinity", "pretrain.lr", "-.inf", "-inf", "finite"),
    field("a_number_too_large_to_be_finite", "pretrain.lr", "1e400", "inf", "finite"),
    field("a_number_too_large_to_mean_anything", "pretrain.lr", "1e300", "1e+300", "at most 1,000,000,000,000"),
    field("word_for_a_whole_number", "model.layers", "two", "'two'", "whole number"),
    field("half_for_a_whole_number", "model.layers", "2.5", "2.5", "whole number"),
    field("true_for_a_whole_number", "model.layers", "true", "true", "must be a number"),
    field("zero_for_a_count", "model.layers", "0", "0", "greater than 0"),
    field("astronomic_count", "model.layers", "9" * 30, "9" * 30, "at most 1,000,000,000,000"),
    field("number_with_a_unit_for_a_count", "model.width", "64 px", "'64 px'", "whole number"),
    field("number_for_true_or_false", "model.tied", "2", "2", "true or false"),
    field("word_for_true_or_false", "model.tied", "maybe", "'maybe'", "true or false"),
    field("word_out_of_a_list", "pretrain.schedule", "cosin", "'cosin'", "known: cosine, wsd",
          "Did you mean 'cosine'?"),
    field("number_out_of_its_range", "pretrain.beta2", "1", "1", "less than 1"),
    field("list_with_an_unknown_name", "tokenizer.corpora", "[code, wbe]", "'wbe'", "Did you mean 'web'?"),
    field("list_with_an_unknown_task", "evaluate.tasks", "[copyng]", "'copyng'", "Did you mean 'copying'?"),
    field("list_that_names_twice", "tokenizer.corpora", "[code, code]", "['code', 'code']", "given twice"),
    field("text_for_a_list", "tokenizer.corpora", "code", "'code'", "must be a list"),
    field("list_without_values", "pretrain.ends", "[]", "[]", "at least 1"),
    field("list_that_falls", "pretrain.ends", "[100%, 50%]", "['100%', '50%']", "must rise"),
    field("share_of_more_than_all", "pretrain.ends", "[120%]", "'120%'", "at most 100%"),
    field("share_without_a_number", "documents.validation_share", "some", "'some'", "5% or 0.05"),
    field("amount_with_an_unknown_suffix", "pretrain.tokens", "3Q", "'3Q'", "164M"),
    field("amount_in_small_letters", "pretrain.tokens", "3m", "'3m'", "Did you mean '3M'?"),
    field("amount_below_one_update", "pretrain.tokens", "10", "'10'", "less than one update of 1024"),
    field("amount_as_a_share_of_nothing", "pretrain.tokens", "50%", "'50%'", "no meaning here"),
    field("absolute_amount_given_as_a_share", "evaluate.end_tokens", "5%", "'5%'", "no meaning here"),
    field("share_of_a_schedule_without_end", "pretrain.warmup", "10%", "'10%'", "10k", "cosine"),
    field("multiple_of_a_reference_that_is_not_there", "evaluate.every", "2x", "'2x'", "no meaning here"),
    field("heads_that_do_not_divide", "model.heads", "3", "3", "must divide model.width = 64"),
    field("heads_that_leave_one_channel", "model.heads", "64", "64", "need pairs"),
    field("patch_that_does_not_divide", "nca.patch", "3", "3", "multiples of it"),
    field("alphabet_that_is_too_large", "nca.states", "300", "300", "less than or equal to 256"),
    field("key_with_control_codes", '"pretrain.\\e[31m"', "1", "", "unknown key"),
    Bad("all_fields_at_once", OLD, "pretrain.lr: fast\n  model.width: -1\n  evaluate.every: often\n  nca.states: 1", [
        Want("fields.pretrain.lr", "'fast'", ["number"], 0),
        Want("fields.model.width", "-1", ["greater than 0"], 1),
        Want("fields.evaluate.every", "'often'", ["an amount"], 2),
        Want("fields.nca.states", "1", ["greater than or equal to 2"], 3),
    ]),
]
FIELDS = [b if b.name != "key_with_control_codes" else one(
    b.name, b.old, b.new, r"fields.pretrain.\x1b[31m", "", "unknown key") for b in FIELDS]


def flag(name: str, flags: list[str], key: str, given: str, *says: str) -> Bad:
    """Return a good file with one flag at fault; the place is the flag itself."""
    return Bad(name, OLD, OLD, [Want(key, given, says, where=" ".join(flags))], flags)


FLAGS = [
    flag("set_unknown_domain", ["--set", "domain=[wbe]"], "axes.domain", "'wbe'", "Did you mean 'web'?"),
    flag("set_unknown_field", ["--set", "pretrain.lrr=1"], "fields.pretrain.lrr", "", "Did you mean 'lr'?"),
    flag("set_bad_value", ["--set", "pretrain.lr=fast"], "fields.pretrain.lr", "'fast'", "must be a number"),
    flag("set_bad_band", ["--set", "complexity=[60-30]"], "axes.complexity", "'60-30'", "LOW < HIGH"),
    flag("set_unknown_protocol", ["--set", "protocol=fairr"], "protocol", "'fairr'", "Did you mean 'fair'?"),
    flag("set_without_equals", ["--set", "domain"], "domain", "", "AXIS_OR_FIELD=VALUE"),
    flag("set_without_key", ["--set", "=3"], "--set", "", "AXIS_OR_FIELD=VALUE"),
    flag("set_without_value", ["--set", "domain="], "domain", "", "AXIS_OR_FIELD=VALUE"),
    flag("set_what_cannot_be_set", ["--set", "doman=web"], "doman", "", "neither an axis", "Did you mean 'domain'?"),
    flag("set_an_unknown_axis", ["--set", "colour=[red]"], "axes.colour", "", "unknown axis"),
    flag("set_open_bracket", ["--set", "domain=[web"], "file", "", "not valid YAML"),
    flag("set_a_tag", ["--set", "domain=!!python/object/apply:os.system [x]"], "file",
         "'tag:yaml.org,2002:python/object/apply:os.system'", "tags are not used"),
    flag("set_a_deep_list", ["--set", "domain=" + "[" * 3000], "file", "'0.0.0.0.0.0.0.0'", "nested deeper than 8"),
    flag("set_a_long_number", ["--set", "pretrain.lr=" + "1" * 5000], "file", "'" + "1" * 79 + "...", "5,000 digits"),
    flag("set_an_empty_axis", ["--set", "domain=[]"], "axes.domain", "[]", "is empty"),
    flag("set_a_name_that_escapes", ["--set", "name=../x"], "name", "'../x'", "Did you mean 'x'?"),
    flag("seeds_a_word", ["--seeds", "many"], "axes.seed", "'many'", "a number of seeds (3)"),
    flag("seeds_none", ["--seeds", "0"], "axes.seed", "'0'", "a number of seeds (3)"),
    flag("seeds_negative", ["--seeds", "-1"], "axes.seed", "'-1'", "a number of seeds (3)"),
    flag("seeds_empty", ["--seeds", ""], "axes.seed", "''", "a number of seeds (3)"),
    flag("seeds_float", ["--seeds", "1.5"], "axes.seed", "'1.5'", "a number of seeds (3)"),
    flag("seeds_twice", ["--seeds", "1,1"], "axes.seed.1", "1", "twice"),
    flag("seeds_far_too_many", ["--seeds", "99999999"], "axes.seed", "'99999999'", "at most 10,000"),
    flag("seeds_beyond_counting", ["--seeds", "9" * 5000], "axes.seed", "'" + "9" * 79 + "...", "number of seeds"),
    flag("scale_unknown", ["--scale", "400"], "scale", "'400'", "Did you mean '400m'?"),
    flag("scale_empty", ["--scale", ""], "scale", "''", "known: 1.6b, 10m"),
    flag("cluster_that_escapes", ["--cluster", "../x"], "run.cluster", "'../x'", "Did you mean 'x'?"),
    Bad("all_flags_at_once_after_the_file", OLD, "pretrain.lrr: 1", [
        Want("fields.pretrain.lrr", "", ["Did you mean 'lr'?"], 0),
        Want("axes.domain", "'wbe'", ["web"], where="--set domain=[wbe]"),
        Want("fields.model.width", "-1", ["greater than 0"], where="--set model.width=-1"),
    ], ["--set", "domain=[wbe]", "--set", "model.width=-1"]),
]
