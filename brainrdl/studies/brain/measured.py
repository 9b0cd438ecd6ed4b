"""The measured RDMs that a study's file names, and the rules of all its parts."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)


class Part(BaseModel):
    """A part of the file: unknown fields are refused, and switches where no switch is."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name is None or cls.model_fields[info.field_name].annotation is bool:
            return value
        if any(isinstance(entry, bool) for entry in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError(
                f"expected no switch, got {value!r} (YAML reads yes, no, on and off as true and false; a name of that "
                "kind needs quotes)"
            )
        return value


class Measured(Part):
    """Measured RDMs of one study and region, one per subject (and session)."""

    rdms: str
    """A file of labelled RDMs, or ``objects92:human``, ``objects92:second-study``."""
    roi: str | None = None
    """Its region, where the file holds several."""
    # what a file of another tool does not say
    subjects: int | str | None = None
    """How many people's RDMs they are, a text file with their names, or the coordinate that holds these."""
    stimuli: str | None = None
    """A text file with the stimulus ids in the file's order, or the field that holds them."""
    metric: str | None = None
    order: Literal["row-major", "column-major"] | None = None
    variable: str | None = None

    @model_serializer(mode="wrap")
    def _as_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the words that were not given: by its content a study is known."""
        return {name: value for name, value in dump(self).items() if value is not None or name == "roi"}
