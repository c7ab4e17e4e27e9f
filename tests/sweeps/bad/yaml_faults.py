"""Faults of the file as YAML."""

from __future__ import annotations

from tests.sweeps.bad import GOOD, Bad, Want, one

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
RUN_CODE = "!!python/object/apply:os.system ['touch PWNED']"

CASES = [
    one("only_space", "", " \n\n", "file", "", "is empty", line=None),
    one("only_a_comment", "", "# nothing\n", "file", "null", "is not a mapping"),
    one("open_bracket", "[web, code]", "[web, code", "file", "'seed: [0, 1]'", "is not valid YAML 1.2", line=1),
    one("open_quote", "name: base", 'name: "base', "file", "", "is not valid YAML 1.2", line=14),
    one("bad_indentation", "  domain:", "   domain:", "file", "'domain: [web, code]'", "is not valid YAML 1.2"),
    one("tab", "  domain:", "\tdomain:", "file", "'domain: [web, code]'", "spaces, not with tabs"),
    one("colon_in_a_value", "question: What?", "question: What: why?", "file", "'question: What: why?'", "quotes"),
    one("nul_byte", "question: What?", "question: \0", "file", r"'question: \x00'", "0x0000 is not allowed"),
    one("second_document", "run: {cluster: local}", "---\nname: b", "file", "'---'", "second document"),
    one("older_yaml", "", "%YAML 1.1\n---\n" + GOOD, "file", "'%YAML 1.1'", "YAML 1.2", line=1),
    one("duplicate_key", "question: What?", "name: other", "name", "", "given in line 2 already"),
    one("duplicate_axis", "domain: [web, code]", "domain: [web, code]\n  upstream: [none]", "axes.upstream", "",
        "given in line 8 already", line=1),
    one("duplicate_field", "  pretrain.lr: 5e-4", "  pretrain.lr: 5e-4\n  pretrain.lr: 1", "fields.pretrain.lr", "",
        "given in line 14 already", line=1),
    Bad("number_and_text_as_one_key", "question: What?", "1: a\n'1': b", [
        Want("1", "", ["unknown key"], 0), Want("1", "", ["already"], 1)]),
    Bad("tag_that_runs_code", "question: What?", f"question: {RUN_CODE}", [
        Want("question", "'tag:yaml.org,2002:python/object/apply:os.system'", ["plain values"]),
        Want("question", "['touch PWNED']", ["must be text"])]),
    one("tag_of_ones_own", "question: What?", "question: !mine x", "question", "'!mine'", "plain values"),
    one("tag_on_a_mapping", "{upstream: none}", "!!omap {upstream: none}", "baseline", "'tag:yaml.org,2002:omap'",
        "plain values"),
    one("merge_key", "fields:\n  pretrain.lr: 5e-4", "fields:\n  <<: {pretrain.lr: 1}", "fields.<<", "<<",
        "write the keys out", line=1),
    one("mapping_as_a_key", "question: What?", "{a: b}: c", "file", "{'a': 'b'}", "a key is a word"),
    one("nothing_as_a_key", "question: What?", "null: c", "file", "null", "a key is a word"),
    one("unknown_alias", "question: What?", "question: *wha", "file", "'*wha'", "unknown alias"),
    one("alias_of_itself", "[web, code]", "&a [web, *a]", "file", "'*a'", "holds itself"),
    one("alias_bomb", "", BOMB + GOOD, "file", "", "more than 100,000 values", line=4),
    one("very_deep", "question: What?", "question: " + "[" * 5000 + "]" * 5000, "file", "'question.0.0.0.0.0.0.0'",
        "nested deeper than 8 levels"),
    one("very_deep_in_blocks", "question: What?", "question:" + "".join(
        "\n" + " " * (i + 1) + "a:" for i in range(20)), "file", "'question.a.a.a.a.a.a.a'", "nested deeper", line=8),
    one("number_without_end", "  pretrain.lr: 5e-4", "  pretrain.lr: " + "1" * 5000, "fields.pretrain.lr",
        "'" + "1" * 79 + "...", "5,000 digits"),
    Bad("faults_of_yaml_and_of_the_schema_at_once", "question: What?", "name: b\nqestion: !x y", [
        Want("name", "", ["duplicate"], 0),
        Want("qestion", "'!x'", ["tags"], 1),
        Want("qestion", "", ["Did you mean 'question'?"], 1),
    ]),
]

ACCEPTED = {
    "byte_order_mark": "\ufeff" + GOOD,
    "carriage_returns": GOOD.replace("\n", "\r\n"),
    "an_alias": GOOD.replace("[web, code]", "&d [web, code]").replace("question: What?", "question: &q What?"),
    "quoted_keys": GOOD.replace("name: base", '"name": "base"'),
    "a_document_mark": "%YAML 1.2\n---\n" + GOOD + "...\n",
    "numbers_in_other_spellings": GOOD.replace("5e-4", "0.5E-3").replace("[0, 1]", "[0x0, 0o1]"),
    "a_budget_with_a_space": GOOD.replace("[1x]", "[164 k]"),
}
"""What may look odd and is right."""
