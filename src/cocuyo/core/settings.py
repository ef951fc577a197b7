"""The base of every settings model."""

from pydantic import BaseModel, ConfigDict


class FrozenConfig(BaseModel):
    """Settings that cannot change after they are made and that refuse unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
