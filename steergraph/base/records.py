"""Small immutable records: what is said between floors, and what others send."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of the small immutable records that cross floors. Unknown fields are errors, NaN and infinity too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Loose(BaseModel):
    """What others send: unknown fields are theirs, and ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")
