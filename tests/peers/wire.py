"""The parts of an answer, and how OpenAI Chat Completions and Anthropic Messages put them on the wire.

An answer is a list of parts: text, `Thinking`, `ToolCall`, `Hold` (waits until the test lets go on), `Cut` (the
connection breaks), `Problem` (an error inside the stream). `chop` splits the bytes on the wire, also inside UTF-8.
"""

import asyncio
import json
from dataclasses import dataclass


class Hold:
    """A place in an answer at which the server waits for the test."""

    def __init__(self):
        self.reached, self._gate = asyncio.Event(), asyncio.Event()

    def release(self) -> None:
        self._gate.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._gate.wait()


@dataclass
class Thinking:
    text: str


@dataclass
class ToolCall:
    name: str
    arguments: str = "{}"


@dataclass
class Pause:
    seconds: float


class Cut:
    """The connection breaks here."""


@dataclass
class Problem:
    """An error inside a stream that has begun."""

    kind: str = "overloaded_error"


class Answer:
    def __init__(self, *parts, tokens_in: int = 11, tokens_out: int = 7, chop: int = 0, finish: str = "stop"):
        self.parts = parts
        self.tokens_in, self.tokens_out = tokens_in, tokens_out
        self.chop, self.finish = chop, finish


def openai_events(model: str, answer: Answer):
    def chunk(delta: dict, finish: str | None = None) -> str:
        return "data: " + json.dumps({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}, ensure_ascii=False) + "\n\n"

    yield chunk({"role": "assistant", "content": ""})
    for part in answer.parts:
        if isinstance(part, str):
            yield chunk({"content": part})
        elif isinstance(part, Thinking):
            yield chunk({"reasoning_content": part.text})
        elif isinstance(part, ToolCall):
            yield chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {
                "name": part.name, "arguments": part.arguments}}]})
        elif isinstance(part, Problem):
            yield "data: " + json.dumps({"error": {"message": part.kind, "type": part.kind, "code": 503}}) + "\n\n"
        else:
            yield part
    yield chunk({}, answer.finish)
    yield "data: " + json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model,
        "choices": [], "usage": {"prompt_tokens": answer.tokens_in, "completion_tokens": answer.tokens_out,
                                 "total_tokens": answer.tokens_in + answer.tokens_out}}) + "\n\n"
    yield "data: [DONE]\n\n"


def anthropic_events(model: str, answer: Answer):
    def event(kind: str, **fields) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n"

    yield event("message_start", message={
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": answer.tokens_in, "output_tokens": 1}})
    yield event("ping")
    blocks = (({"type": "text", "text": ""}, "text_delta", "text"),
              ({"type": "thinking", "thinking": ""}, "thinking_delta", "thinking"),
              ({"type": "tool_use", "id": "toolu_1", "input": {}}, "input_json_delta", "partial_json"))
    index, opened = -1, None
    for part in answer.parts:
        block = 0 if isinstance(part, str) else 1 if isinstance(part, Thinking) else 2 if isinstance(
            part, ToolCall) else None
        if block is None:
            yield event("error", error={"type": part.kind, "message": part.kind}) if isinstance(part, Problem) else part
            continue
        start, kind, key = blocks[block]
        if opened != block or block == 2:
            if opened is not None:
                yield event("content_block_stop", index=index)
            index, opened = index + 1, block
            name = {"name": part.name} if block == 2 else {}
            yield event("content_block_start", index=index, content_block={**start, **name})
        text = part if block == 0 else part.text if block == 1 else part.arguments
        yield event("content_block_delta", index=index, delta={"type": kind, key: text})
    if opened is not None:
        yield event("content_block_stop", index=index)
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    yield event("message_delta", delta={"stop_reason": reasons.get(answer.finish, answer.finish), "stop_sequence": None},
                usage={"output_tokens": answer.tokens_out})
    yield event("message_stop")


def openai_whole(model: str, answer: Answer, text: str) -> dict:
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": answer.tokens_in, "completion_tokens": answer.tokens_out,
                      "total_tokens": answer.tokens_in + answer.tokens_out}}


def anthropic_whole(model: str, answer: Answer, text: str) -> dict:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": answer.tokens_in, "output_tokens": answer.tokens_out}}
