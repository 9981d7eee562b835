"""Published clients of the released Piston, told another host and nothing else.

Usage: clients.py CLIENT HOST   (HOST: http://127.0.0.1:PORT; the client has to be importable)
Prints what a program printed through the client, and a line of the runtimes that it saw.
"""

import asyncio
import json
import sys

CODE = "print('hi ' + input())"


def ultra_piston(host):
    from ultra_piston import File, PistonClient

    client = PistonClient(base_url=host + "/api/v2/")
    languages = sorted(runtime.language for runtime in client.get_runtimes())
    ran = client.post_execute(
        language="python", version="*", file=File(content=CODE), stdin="there"
    )
    return languages, ran.run.output


def aiopyston(host):
    from pyston import File, PystonClient

    async def use():
        client = PystonClient(base_url=host + "/api/v2/piston/")
        languages = sorted(await client.languages())
        ran = await client.execute("python", [File(CODE)], stdin="there")
        await client.close_session()
        return languages, ran.run_stage.output

    return asyncio.run(use())


def piston_rspy(host):
    from piston_rspy import Client, Executor, File

    async def use():
        client = Client.with_url(host + "/api/v2")
        languages = sorted(runtime.language for runtime in await client.fetch_runtimes())
        job = Executor().set_language("python").set_version("*").set_stdin("there")
        ran = await client.execute(job.add_file(File(name="main.py", content=CODE)))
        return languages, ran.run.output

    return asyncio.run(use())


def pistonpy(host):
    import pistonpy.pistonapp as app

    # The address is a constant in it.
    send = app.requests.request
    released = "https://emkc.org/api/v2/piston"
    app.requests.request = lambda method, url, **rest: send(
        method, url.replace(released, host + "/api/v2/piston"), **rest
    )
    client = app.PistonApp()
    languages = sorted({runtime["language"] for runtime in client.raw})
    ran = client.run(language="python", version="*", code=CODE, input="there")
    return languages, ran["run"]["output"]


def pistonapi(host):
    from pistonapi import PistonAPI

    # It sends a form to `execute`, which the released service refused as well.
    return sorted(PistonAPI(host + "/api/v2/piston").runtimes), None


client, host = sys.argv[1:]
languages, output = globals()[client.replace("-", "_")](host)
print(json.dumps({"languages": languages, "output": output}))
