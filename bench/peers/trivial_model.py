"""A model for LiteLLM's proxy to stand in front of: says the same to every chat, at once.

python trivial_model.py PORT
"""

import asyncio
import json
import re
import sys

CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "0.5"}}
USAGE = {"prompt_tokens": 30, "completion_tokens": 1, "total_tokens": 31}
SAID = {"id": "chat", "object": "chat.completion", "created": 0, "model": "trivial", "choices": [CHOICE]}
BODY = json.dumps({**SAID, "usage": USAGE}).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(HEAD + BODY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(port):
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
