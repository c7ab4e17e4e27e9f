"""Claims: statements written before the first run, in words or as a contrast with a threshold, judged in the report.

    nca 60-75 beats scratch on web by more than 0.01 nats
    nca at 164M beats text at 1.64B on web
    best band on code is lower than on web
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sweeps.language.stage import Written
from sweeps.language.units import Amount

BEST = "best_band"
BASELINE = "baseline"
GAIN = r"^\s*[<>]\s*-?[0-9.]+\s*$"
_GAIN_WORDS = re.compile(
    r"(?P<arm>.+?)\s+beats\s+(?P<over>.+?)\s+on\s+(?P<domain>\S+)(\s+by\s+more\s+than\s+(?P<nats>-?[0-9.]+)\s*nats?)?")
_BAND_WORDS = re.compile(
    r"(the\s+)?best[ _]band\s+on\s+(?P<domain>\S+)\s+is\s+(?P<band>lower|higher)\s+than\s+on\s+(?P<than>\S+)")
EXAMPLES = ("`nca 60-75 beats scratch on web by more than 0 nats`, `nca at 164M beats text at 1.64B on web` or "
            "`best band on code is lower than on web`")


def _gain(value: str) -> str:
    if value and (not re.fullmatch(GAIN, value) or value.count(".") > 1 or not re.search("[0-9]", value)):
        raise ValueError('write a direction and a number, in quotes: "> 0", "> 0.01" or "< -0.005"')
    return value


class Claim(Written):
    """A statement written before the first run, judged in the report; also as one sentence."""

    domain: str
    """Domain of the comparison."""
    arm: str = BEST
    """An arm's label (`nca 45-60`), an upstream, either with its budget (`nca at 164M`), or `best_band`. Where it names
    several bands, the best of them is meant."""
    over: str = BASELINE
    """Likewise, or `baseline`."""
    gain_nats: Annotated[str, Field(json_schema_extra={"pattern": GAIN}), AfterValidator(_gain)] = ""
    """Gain over `over` at the last end, nats per token, with a direction: `> 0`."""
    band: Literal["", "lower", "higher"] = ""
    """Instead of a gain: whether the best band is lower or higher than in the domain `than`."""
    than: str = ""
    """The other domain."""
    says: str = ""
    """The sentence that it was written as."""

    @model_validator(mode="before")
    @classmethod
    def _of_words(cls, value: Any) -> Any:
        return claim_of(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_statement(self) -> Claim:
        if bool(self.gain_nats) == bool(self.band):
            raise ValueError('a claim is about a gain (gain_nats: "> 0") or about the best band (band: lower, than: '
                             'DOMAIN), one of the two')
        if bool(self.band) != bool(self.than) or (self.band and (self.arm, self.over) != (BEST, BASELINE)):
            raise ValueError("a claim about the best band has domain, band and than, and nothing else")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A mapping or a sentence."""
        made = handler.resolve_ref_schema(handler(schema))
        mapping = {k: v for k, v in made.items() if k not in ("title", "description")}
        about = {"title": made["title"], "description": made["description"]}
        made.clear()
        made.update({**about, "anyOf": [mapping, {"type": "string", "description": EXAMPLES}]})
        return made


def claim_of(words: str) -> dict[str, str]:
    """Return the fields of a claim in words.

    Raises:
        ValueError: the sentence has none of the known forms.
    """
    text = " ".join(words.split()).rstrip(".")
    if match := _BAND_WORDS.fullmatch(text):
        return {"domain": match["domain"], "band": match["band"], "than": match["than"], "says": text}
    if match := _GAIN_WORDS.fullmatch(text):
        arm = BEST if match["arm"].lower() in ("best band", "the best band") else match["arm"]
        return {"domain": match["domain"], "arm": arm, "over": match["over"],
                "gain_nats": f"> {match['nats'] or '0'}", "says": text}
    raise ValueError(f"no claim that can be judged; write for instance {EXAMPLES}")


def named(written: str, arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the labels of the arms that a claim's name means: its own label, or what it says of the arm.

    A name is a label, or an upstream with or without its band, upper or lower case; ` at ` and a budget, as the axis
    has it or in tokens, keep the arms of that budget.

    Args:
        written: the name.
        arms: rows with arm, upstream, complexity, token_budget, upstream_tokens, requested_upstream_tokens.
    """
    exact = [str(a["arm"]) for a in arms if a["arm"] == written]
    if exact:
        return exact
    name, _, budget = written.lower().partition(" at ")
    found = [a for a in arms if name in {
        str(a["arm"]).lower(), str(a["upstream"]).lower(), f"{a['upstream']} {a['complexity']}".lower()}]
    return [str(a["arm"]) for a in found if not budget or _has_budget(a, written[len(name) + 4:].strip())]


def _has_budget(arm: Mapping[str, Any], budget: str) -> bool:
    if budget == arm["token_budget"]:
        return True
    try:
        tokens = Amount(budget).tokens()
    except ValueError:
        return False
    return tokens in (arm["upstream_tokens"], arm["requested_upstream_tokens"])
