"""SteeredChat under langchain-tests' standard suites, unit and integration.

Skipped, and why: `test_init_from_env` (nothing is set by the environment), `test_serdes` (a live engine can't be
written down), model override (one engine speaks with one model), images, audio, video, PDF and Anthropic's blocks
(models read text), `test_stream_time` (it needs recordings of HTTP), and with pocket the tool calls and structured
answers: it was trained on neither. Those run over the scripted engine, which says what a model that can would say.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from steergraph import SteeredChat
from steergraph.engine.local import LocalEngine
from steergraph.engine.protocol import Request
from steergraph.engine.scripted import ScriptedEngine

ARGUMENTS: dict[str, dict[str, Any]] = {
    "magic_function": {"input": 3},
    "magic_function_no_args": {},
    "greeting_generator": {"answer_style": "Pirate"},
    "my_adder_tool": {"a": 3, "b": 4},
    "get_weather": {"location": "San Francisco, CA"},
    "Joke": {"setup": "Why do cats sit on keyboards?", "punchline": "To keep an eye on the mouse."},
}


def speaker(request: Request) -> str:
    """What a model that can call tools says."""
    messages = request.messages or ()
    system = messages[0].content if messages[0].role == "system" else ""
    asked = messages[-1].content
    tools = [json.loads(line) for line in system.splitlines() if line.startswith('{"name"') and "parameters" in line]
    if tools and "<tool_response>" not in asked:
        forced = re.search(r"You must call the tool (\S+)\.", system)
        name = forced[1] if forced else tools[0]["name"]
        arguments = ARGUMENTS.get(name, ARGUMENTS["Joke"])
        if name == "unicode_customer":
            arguments = {"customer_name": re.findall(r"'(.+?)'", asked)[0], "description": "a company"}
        call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        return f"Let me see.\n<tool_call>\n{call}\n</tool_call>"
    if "JSON" in system or "JSON" in asked:
        return f"```json\n{json.dumps(ARGUMENTS['Joke'])}\n```"
    return "Hello there, all is well."


class Shared:
    """One engine of each kind for all the tests of a class."""

    engine: Any = None

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _engine(cls) -> Iterator[None]:
        cls.engine = LocalEngine("pocket") if "Pocket" in cls.__name__ else ScriptedEngine(speaker)
        yield
        cls.engine.close()

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return SteeredChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": self.engine, "max_tokens": 8}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "timeout": 60}

    @property
    def supports_model_override(self) -> bool:
        return False


class TestUnit(Shared, ChatModelUnitTests):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": self.engine}


class TestIntegrationScripted(Shared, ChatModelIntegrationTests):
    @property
    def supports_json_mode(self) -> bool:
        return True


@pytest.mark.slow
class TestIntegrationScriptedJson(Shared, ChatModelIntegrationTests):
    """Structured answers once more, as JSON of a schema instead of a tool call."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}

    @property
    def has_tool_calling(self) -> bool:
        return False


@pytest.mark.slow
class TestIntegrationPocket(Shared, ChatModelIntegrationTests):
    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False
