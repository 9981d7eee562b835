"""Libraries that others published for the released Piston, against the v2 API whose address is given.

Each lists runtimes and runs a program that reads its input. (`pistonapi` 1.0.1 is not among them:
it sends a form where the released Piston wants JSON, and is refused there as well.)
"""

import asyncio
import sys

URL = sys.argv[1]
CODE = 'read line; echo "heard $line"; exit 3'


def ultra_piston() -> None:
    from ultra_piston import File, PistonClient

    client = PistonClient(base_url=URL)
    assert any(runtime.language == "bash" for runtime in client.get_runtimes())
    reply = client.post_execute("bash", "5.x", File(content=CODE), stdin="me")
    assert (reply.run.output, reply.run.code) == ("heard me\n", 3), reply


async def aiopyston() -> None:
    from pyston import File, PystonClient

    client = PystonClient(api_key="key of a service that is gone", base_url=f"{URL}/")
    try:
        assert "bash" in await client.languages()
        reply = await client.execute("bash", [File(CODE)], stdin="me")
        assert str(reply) == "heard me\n", reply
    finally:
        await client.close_session()


async def piston_rs() -> None:
    """The crate `piston_rs` by its Python binding."""
    import piston_rspy

    client = piston_rspy.Client.with_url_and_key(URL, "key of a service that is gone")
    assert any(runtime.language == "bash" for runtime in await client.fetch_runtimes())
    job = piston_rspy.Executor().set_language("bash").set_version("*").set_stdin("me")
    reply = await client.execute(job.add_file(piston_rspy.File(content=CODE)))
    assert (reply.run.output, reply.run.code) == ("heard me\n", 3), reply


def pistonpy() -> None:
    import pistonpy.models
    from pistonpy import PistonApp

    # It has no setting for the address.
    made = pistonpy.models.GetOutput.__init__

    def here(self, *arguments, **named):
        made(self, *arguments, **named)
        self._endpoint = f"{URL}/execute"

    pistonpy.models.GetOutput.__init__ = here
    app = PistonApp()
    app._endpoint = URL
    assert "bash" in app.languages
    reply = app.run(language="bash", code=CODE, input="me")
    assert reply["run"]["output"] == "heard me\n", reply


def main() -> None:
    for check in (ultra_piston, aiopyston, piston_rs, pistonpy):
        done = check()
        if asyncio.iscoroutine(done):
            asyncio.new_event_loop().run_until_complete(done)
        print(f"{check.__name__}: works")


main()
