"""Validate a request's `params` as the API does, for batch rows and for /v1/messages alike.

A batch's row meets them when it is processed (it comes back errored), a direct call at once (400).
"""

from typing import Any

from emulator.conversation import check_messages, check_text
from emulator.effort import EFFORTS
from emulator.models import BY_NAME, Model
from emulator.problems import Problem, invalid
from emulator.schema_rules import check_output_schema
from emulator.tokens import input_tokens
from emulator.tool_rules import check_tools
from emulator.toolset_rules import check_connector, may_connect

OLD_VERSIONS = ("2023-01-01", "2023-06-01")
NEW_VERSION = "2026-10-21"
SAMPLING = ("temperature", "top_p", "top_k")
REQUIRED = ("model", "max_tokens", "messages")
ALLOWED = {
    "cache_control", "container", "context_management", "diagnostics", "inference_geo", "max_tokens", "mcp_servers",
    "messages", "metadata", "model", "output_config", "output_format", "service_tier", "speed", "stop_sequences",
    "stream", "system", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p", "user_profile_id",
    "workspace_id",
}  # fmt: skip
# What has no bearing on the prompt is unknown where its tokens are counted.
NOT_COUNTED = {
    "container", "diagnostics", "inference_geo", "max_tokens", "metadata", "service_tier", "stop_sequences", "stream",
    "temperature", "top_k", "top_p",
}  # fmt: skip
# Not part of a batch: threads, fast mode, cache hints.
NOT_IN_BATCHES = ("previous_thread_event_id", "store", "cache_hint", "context_hint", "speed")
LONG_OUTPUT_BETA, LONG_OUTPUT = "output-300k-2026-03-24", 300_000


def check_row(params: dict[str, Any], version: str, betas: tuple[str, ...]) -> Model:
    """Check a row of a batch, and return the model that will answer it. Raises Problem."""
    if params.get("stream"):
        raise invalid('"stream=True" is not supported in the Message Batches API')
    for field in NOT_IN_BATCHES:
        if field in params:
            raise invalid(f'"{field}" is not supported in the Message Batches API')
    if params.get("max_tokens") == 0:
        raise invalid("max_tokens: must be greater than or equal to 1")
    return check_params(params, version, betas, long_output=LONG_OUTPUT_BETA in betas)


def check_params(
    params: dict[str, Any],
    version: str,
    betas: tuple[str, ...] = (),
    *,
    long_output: bool = False,
    counting: bool = False,
) -> Model:
    """Check a request, and return the model that will answer it. Raises Problem."""
    _check_fields(params, betas, counting=counting)
    model = BY_NAME.get(params["model"])
    if model is None:
        raise Problem(404, f"model: {params['model']}")
    if not counting:
        _check_max_tokens(params["max_tokens"], model, LONG_OUTPUT if long_output and model.long_output else None)
    if version == NEW_VERSION:
        for field in SAMPLING:
            if field in params:
                raise invalid(f"{field}: Extra inputs are not permitted")
    _check_system(params.get("system"))
    check_messages(params, model, newest=version == NEW_VERSION)
    _check_thinking(params, model)
    connects = may_connect(betas)
    check_tools(params, model, connects=connects)
    if connects:
        check_connector(params)
    _check_output_config(params.get("output_config"))
    _check_cache_marks(params)
    if not counting and (tokens := input_tokens(params)) > model.context:
        raise invalid(f"prompt is too long: {tokens} tokens > {model.context} maximum")
    return model


def _check_fields(params: dict[str, Any], betas: tuple[str, ...], *, counting: bool) -> None:
    for field in REQUIRED:
        if field not in params and not (counting and field == "max_tokens"):
            raise invalid(f"{field}: Field required")
    for field in params:
        if field not in ALLOWED or (counting and field in NOT_COUNTED):
            raise invalid(f"{field}: Extra inputs are not permitted")
        if field == "mcp_servers" and not may_connect(betas):
            raise invalid(f"{field}: Extra inputs are not permitted")
    if not isinstance(params["model"], str):
        raise invalid("model: Input should be a valid string")


def _check_max_tokens(max_tokens: object, model: Model, longer: int | None) -> None:
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if max_tokens < 1:
        raise invalid("max_tokens: must be greater than or equal to 1")
    most = longer or model.max_output
    if max_tokens > most:
        raise invalid(
            f"max_tokens: {max_tokens} > {most}, which is the maximum allowed number of output tokens for {model.id}"
        )


def _check_system(system: object) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid string or list")
    for at, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"system.{at}: Input should be a text block")
        check_text("system", f"system.{at}", block)


def _check_thinking(params: dict[str, Any], model: Model) -> None:
    thinking = params.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    effort = (params.get("output_config") or {}).get("effort")
    match kind:
        case "enabled" if not model.budget:
            raise invalid(
                '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
                '"output_config.effort" to control thinking behavior.'
            )
        case "enabled":
            _check_budget(thinking.get("budget_tokens"), params.get("max_tokens"))
        case "disabled" if model.thinking in ("always", "between_tools"):
            raise invalid('"thinking.type.disabled" is not supported for this model.')
        case "between_tools" if model.thinking != "between_tools":
            raise invalid('"thinking.type.between_tools" is not supported for this model.')
        case "disabled" | "between_tools" if effort in ("xhigh", "max"):
            raise invalid(f'"thinking.type.{kind}" is not supported with "output_config.effort" above "high".')
        case "adaptive" | "disabled" | "between_tools":
            return
        case _:
            raise invalid("thinking.type: Input should be 'adaptive', 'between_tools', 'disabled' or 'enabled'")


def _check_budget(budget: object, max_tokens: object) -> None:
    if not isinstance(budget, int):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < 1024:
        raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if isinstance(max_tokens, int) and budget >= max_tokens:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _check_output_config(config: object) -> None:
    if config is None:
        return
    if not isinstance(config, dict):
        raise invalid("output_config: Input should be an object")
    for field in config:
        if field not in ("effort", "format", "task_budget"):
            raise invalid(f"output_config.{field}: Extra inputs are not permitted")
    if config.get("effort") is not None and config["effort"] not in EFFORTS:
        raise invalid("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    form = config.get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise invalid("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(form.get("schema"), dict):
        raise invalid("output_config.format.schema: Field required")
    check_output_schema(form["schema"])


def _check_cache_marks(params: dict[str, Any]) -> None:
    marks = [params] if params.get("cache_control") else []
    for part in (params.get("tools"), params.get("system"), *(each["content"] for each in params["messages"])):
        if isinstance(part, list):
            marks += [block for block in part if block.get("cache_control")]
    if len(marks) > 4:
        raise invalid(f"A maximum of 4 blocks with cache_control may be provided. Found {len(marks)}.")
    for block in marks:
        if block["cache_control"].get("ttl") not in (None, "5m", "1h"):
            raise invalid("cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
