"""The block of a tool server: its place and its secrets."""

from prefect.blocks.core import Block
from prefect.types import SecretDict
from pydantic import Field, HttpUrl, SecretStr, model_validator

from rowtide.tools.operator_servers import ServerPlace, secret_variable

SLUG = "rowtide-tool-server"


class ToolServer(Block):
    """A server of tools, over what jobs and `registry.yaml` say of it.

    It is called as the server is in `job.yaml`, for every job; or JOB-SERVER, for one.

    Example:
        Load the block and see where the server is, without its secrets:
        ```python
        from blocks.tool_server import ToolServer

        server = ToolServer.load("BLOCK_NAME")
        server.get_place("BLOCK_NAME")
        ```
    """

    _block_type_name = "Tool Server"
    _block_type_slug = SLUG
    _description = "Where a job's tool server is and what it is let in with: over job.yaml, and without a deploy."
    _documentation_url = HttpUrl("https://modelcontextprotocol.io/docs/getting-started/intro")

    command: str | None = Field(
        default=None, description="The program to start instead of the job's; `python` is the one Rowtide runs on."
    )
    args: list[SecretStr] = Field(default=[], description="Its arguments, with `command`.")
    env: SecretDict = Field(
        default=SecretDict({}), description="Environment variables, over the job's: name and value, as JSON."
    )
    url: str | None = Field(default=None, description="Instead of a program: a server that speaks streamable HTTP.")
    headers: SecretDict = Field(
        default=SecretDict({}), description="HTTP headers, over the job's: name and value, as JSON."
    )

    @model_validator(mode="after")
    def _one_place(self) -> "ToolServer":
        if self.command and self.url:
            raise ValueError("give `command` or `url`, or neither to add `env` and `headers` to what the job says")
        if self.args and not self.command:
            raise ValueError("`args` are those of `command`")
        return self

    def get_place(self, name: str) -> ServerPlace:
        """Return the server's place. Every secret is a `${NAME}`, whose value `get_secrets` returns."""
        return ServerPlace(
            self.command,
            [_hole(name, "args", str(number)) for number in range(len(self.args))],
            {key: _hole(name, "env", key) for key in self.env.get_secret_value()},
            self.url,
            {key: _hole(name, "headers", key) for key in self.headers.get_secret_value()},
        )

    def get_secrets(self, name: str) -> dict[str, str]:
        """Return the value of every `${NAME}`."""
        args = {
            secret_variable(name, "args", str(number)): each.get_secret_value() for number, each in enumerate(self.args)
        }
        env = {secret_variable(name, "env", key): str(value) for key, value in self.env.get_secret_value().items()}
        headers = {
            secret_variable(name, "headers", key): str(value) for key, value in self.headers.get_secret_value().items()
        }
        return args | env | headers


def _hole(*words: str) -> str:
    return f"${{{secret_variable(*words)}}}"
