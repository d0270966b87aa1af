"""`python -m deploy.on_call`: tell Prefect whom to tell when a run needs somebody, and what.

The automations are in `on_call.yaml`. They go where ROWTIDE_ON_CALL_URL says: a POST of `{"text": ...}`, as Slack,
Mattermost and most others take it. Without it those that are missing are made, switched off; what is there is left.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.types import SecretDict

FILE = Path(__file__).with_name("on_call.yaml")
BLOCK = "rowtide-on-call"
WHERE = "ROWTIDE_ON_CALL_URL"
NOWHERE = "http://127.0.0.1:9/nobody-is-named"


def main() -> None:
    """Make what is missing; with a URL, all of it as delivered."""
    asyncio.run(tell_whom(os.environ.get(WHERE)))


async def tell_whom(url: str | None) -> None:
    """Make the block that sends, and the automations that use it."""
    async with get_client() as client:
        known = {each.name: each.id for each in await client.read_automations()}
        wanted: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())
        missing = [each for each in wanted if each["name"] not in known]
        if not url and not missing:
            return
        block = await _block(client, url)
        for each in wanted if url else missing:
            await _make(client, known.get(each["name"]), _automation(each, block, is_on=bool(url)))


def _automation(found: dict[str, Any], block: UUID, *, is_on: bool) -> AutomationCore:
    said = {"subject": f"Rowtide: {found['subject']}", "body": found["body"]}
    action = {"type": "send-notification", "block_document_id": str(block), **said}
    kept = {name: found[name] for name in ("name", "description", "trigger")}
    return AutomationCore.model_validate({**kept, "enabled": is_on, "actions": [action]})


async def _make(client: PrefectClient, known: UUID | None, automation: AutomationCore) -> None:
    if known is None:
        await client.create_automation(automation)
    else:
        await client.update_automation(known, automation)


async def _block(client: PrefectClient, url: str | None) -> UUID:
    """The block that sends; without a URL the one that is there. The URL is a secret: who has it can write there."""
    if not url:
        with suppress(ObjectNotFound):
            return (await client.read_block_document_by_name(BLOCK, "custom-webhook")).id
    block = CustomWebhookNotificationBlock(
        name="Rowtide, on call",
        url="{{where}}",
        json_data={"text": "{{subject}}\n\n{{body}}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"where": url or NOWHERE}),
    )
    return await block.asave(BLOCK, overwrite=True)


if __name__ == "__main__":
    main()
