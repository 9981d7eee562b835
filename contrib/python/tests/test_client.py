"""Drives a real daemon that has bash: the one that `PISTON_HOST` names, which must be set."""

from __future__ import annotations

import os
import tempfile
import threading
import unittest
from collections.abc import Iterator
from typing import Any

from piston_client import Case, Piston, Progress, Refused, Result, Unreachable


class Jobs(unittest.TestCase):
    def setUp(self) -> None:
        self.assertIn("PISTON_HOST", os.environ, "these tests talk to a daemon of their own")
        self.piston = Piston(timeout=60)

    def test_a_program_gets_its_input_and_arguments_and_gives_its_output_back(self) -> None:
        code = 'cat; echo "$@" "$WHO"; echo oops >&2'
        result = self.piston.run("bash", code, stdin="in\n", args=["a b"], env={"WHO": "me"})
        self.assertEqual(result.stdout, "in\na b me\n")
        self.assertEqual(result.stderr, "oops\n")
        self.assertTrue(result.ok)
        self.assertIsNone(result.compile)
        self.assertEqual((result.language, result.cache), ("bash", "miss"))
        self.assertGreater(result.timings["sandbox_us"], 0)

    def test_a_program_that_fails_is_a_result(self) -> None:
        result = self.piston.run("bash", "exit 3")
        self.assertEqual((result.last.code, result.last.status, result.ok), (3, "RE", False))
        result = self.piston.run("bash", "kill -TERM $$")
        self.assertEqual((result.last.code, result.last.signal), (None, "SIGTERM"))
        result = self.piston.run("bash", "sleep 60", wall_time_ms=100)
        self.assertEqual(result.last.status, "TO")

    def test_bytes_of_any_value_go_in_and_out(self) -> None:
        every = bytes(range(256))
        files: dict[str, str | bytes] = {
            "main.sh": "cat > in; cat data in > out",
            "data": every,
        }
        result = self.piston.run("bash", files, stdin=every, outputs=["out"])
        self.assertEqual([(file.name, file.content) for file in result.files], [("out", every * 2)])

    def test_events_come_while_the_program_runs(self) -> None:
        events = self.piston.stream("bash", "echo one; read -r line; echo two", stdin="go\n")
        seen = list(events)
        self.assertEqual(seen[0], {"event": "stage", "stage": "run"})
        text = "".join(event["data"] for event in seen if event["event"] == "stdout")
        self.assertEqual(text, "one\ntwo\n")
        self.assertEqual(Result.parse(seen[-1]["result"]).stdout, "one\ntwo\n")

    def test_a_reader_that_stops_ends_the_job(self) -> None:
        events = self.piston.stream("bash", "echo on; sleep 3", wall_time_ms=3000)
        for event in events:
            if event["event"] == "stdout":
                break
        self.assertEqual(len(self.piston.jobs()), 1)
        events.close()
        # A job that was left alone would end as TO or by itself: either takes its three seconds.
        waited = 0
        while self.piston.jobs():
            waited += 1
            self.assertLess(waited, 20, "the job goes on")
            threading.Event().wait(0.1)

    def test_a_running_job_can_be_killed(self) -> None:
        events = self.piston.stream("bash", "echo on; sleep 3")
        status = None
        for event in events:
            if event["event"] == "stdout":
                (job,) = self.piston.jobs()
                self.assertEqual(self.piston.job(job["id"])["state"], "run")
                self.piston.kill(job["id"])
            if event["event"] == "result":
                status = Result.parse(event["result"]).last.status
        self.assertEqual(status, "KL")

    def test_what_the_daemon_refuses_says_why(self) -> None:
        with self.assertRaises(Refused) as caught:
            self.piston.run("cobol", "DISPLAY 'HI'")
        self.assertEqual(
            (caught.exception.status, caught.exception.code), (404, "package_not_found")
        )
        self.assertIn("cobol", str(caught.exception))
        with self.assertRaises(Refused) as caught:
            self.piston.run("bash", "true", memory=1)
        self.assertIn("memory", caught.exception.detail)
        with self.assertRaises(Refused) as caught:
            list(self.piston.stream("bash", "true", version="99.x"))
        self.assertEqual(caught.exception.code, "package_not_found")

    def test_one_client_serves_many_threads(self) -> None:
        outputs = [""] * 8

        def job(n: int) -> None:
            outputs[n] = self.piston.run("bash", f"echo {n}").stdout

        threads = [threading.Thread(target=job, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(outputs, [f"{n}\n" for n in range(8)])


class Conversations(unittest.TestCase):
    def setUp(self) -> None:
        self.piston = Piston(timeout=60)

    @staticmethod
    def until(events: Iterator[dict[str, Any]], end: str) -> str:
        """What is printed, up to this."""
        printed = ""
        for event in events:
            if event["event"] == "stdout":
                printed += event["data"]
            if printed.endswith(end):
                return printed
        raise AssertionError(f"it ended after {printed!r}")

    def test_a_program_that_is_talked_with_answers_before_its_input_ends(self) -> None:
        code = 'read -r a; echo "1 $a"; read -r b; echo "2 $b"; cat | wc -c; exit 3'
        with self.piston.interact("bash", code, stdin="given\n") as program:
            events = iter(program)
            self.assertEqual(self.until(events, "\n"), "1 given\n")
            program.write("typed\n")
            self.assertEqual(self.until(events, "\n"), "2 typed\n")
            program.write(bytes(range(256)) * 1024)
            program.end()
            self.assertEqual(self.until(events, "\n"), f"{256 * 1024}\n")
            self.assertIsNone(program.result)
            self.assertEqual([event["event"] for event in events], ["exit", "result"])
        assert program.result is not None
        self.assertEqual(program.result.last.code, 3)

    def test_a_program_on_a_terminal_knows_its_size_and_gets_signals(self) -> None:
        code = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.1; done"
        with self.piston.interact("bash", code, terminal=(80, 24)) as program:
            events = iter(program)
            self.assertEqual(self.until(events, "\n"), "24 80\r\n")
            program.resize(100, 30)
            self.assertEqual(self.until(events, "\n"), "30 100\r\n")
        code = "trap 'echo asked; exit 7' INT; echo on; while :; do sleep 0.1; done"
        with self.piston.interact("bash", code) as program:
            events = iter(program)
            self.until(events, "on\n")
            program.signal("SIGINT")
            self.until(events, "asked\n")
            list(events)
        assert program.result is not None
        self.assertEqual(program.result.last.code, 7)

    def test_leaving_a_conversation_ends_its_program(self) -> None:
        with self.piston.interact("bash", "echo on; sleep 60") as program:
            self.until(iter(program), "on\n")
            self.assertEqual(len(self.piston.jobs()), 1)
        waited = 0
        while self.piston.jobs():
            waited += 1
            self.assertLess(waited, 100, "the job goes on")
            threading.Event().wait(0.1)

    def test_a_conversation_that_is_refused_says_why(self) -> None:
        with self.assertRaises(Refused) as caught:
            list(self.piston.interact("bash", "true", memory=1))
        self.assertIn("memory", caught.exception.detail)
        with self.assertRaises(Refused) as caught:
            with self.piston.interact("cobol", "DISPLAY 'HI'") as program:
                list(program)
        self.assertEqual(caught.exception.code, "package_not_found")
        with self.assertRaises(Unreachable):
            Piston("unix:///nowhere/piston.sock").interact("bash", "true")


class Batches(unittest.TestCase):
    def test_a_program_is_judged_case_by_case(self) -> None:
        code = "read -r a b; echo $((a + b))"
        cases = [
            Case(stdin="1 2\n", expected_stdout="3"),
            Case(stdin=b"2 3\n", expected_stdout=b"6"),
            Case(stdin="", expected_stdout="0", compare="exact"),
        ]
        batch = Piston().batch("bash", code, cases, parallel=2)
        self.assertEqual([case.verdict for case in batch.cases], ["AC", "WA", "WA"])
        self.assertEqual((batch.verdict, batch.ok), ("WA", False))
        assert batch.cases[1].run is not None
        self.assertEqual(batch.cases[1].run.stdout, "5\n")
        batch = Piston().batch("bash", code, cases[1:], stop_on_failure=True)
        self.assertEqual([case.verdict for case in batch.cases], ["WA", None])
        batch = Piston().batch("bash", "exit 3", [Case(limits={"wall_time_ms": 500})])
        self.assertEqual(batch.cases[0].verdict, "RE")


class Packages(unittest.TestCase):
    def test_an_installation_is_watched(self) -> None:
        piston = Piston()
        (bash,) = piston.versions("bash")
        seen: list[Progress] = []
        reply = piston.upload(os.environ["PISTON_TEST_PACKAGE"], watcher=seen.append)
        self.assertEqual(reply["state"], "installed")
        package = reply["package"]
        phases = [step.phase for step in seen if step.language == package["language"]]
        self.assertIn("verify", phases)
        self.assertEqual(phases[-1], "publish")
        again = piston.upload(os.environ["PISTON_TEST_PACKAGE"])
        self.assertEqual(again["state"], "already_installed")
        checked = piston.verify(package["language"], package["version"])
        self.assertEqual(checked["problems"], [])
        removed = piston.uninstall(package["language"], package["version"])
        self.assertEqual(removed["removed"], [package])
        for watcher in (None, seen.append):
            with self.assertRaises(Refused) as caught:
                piston.install("cobol", watcher=watcher)
            self.assertEqual(caught.exception.code, "package_not_available")
        self.assertEqual(piston.versions("bash"), [bash])

    def test_what_can_not_be_extended_says_why(self) -> None:
        with self.assertRaises(Refused) as caught:
            Piston().extend("cobol", "numpy", version="1.x")
        self.assertEqual(caught.exception.code, "package_not_found")
        with self.assertRaises(Refused) as caught:
            Piston().extend("bash", "numpy", name="bash-numpy", index="http://127.0.0.1:9/simple")
        self.assertGreaterEqual(caught.exception.status, 400)

    def test_a_broken_package_is_refused_while_it_is_watched(self) -> None:
        with tempfile.NamedTemporaryFile(suffix=".pkg.tar.gz") as file:
            file.write(b"no archive")
            file.flush()
            with self.assertRaises(Refused) as caught:
                Piston().upload(file.name, watcher=lambda _: None)
        self.assertGreaterEqual(caught.exception.status, 400)

    def test_what_is_kept_of_a_packages_jobs_is_set(self) -> None:
        piston = Piston()
        version = piston.versions("bash")[0]["version"]
        piston.set_package("bash", version, cache="output", cache_ttl_ms=60_000)
        kept = piston.cache("bash", version)
        self.assertEqual((kept["level"], kept["ttl_ms"]), ("output", 60_000))
        self.assertEqual(set(piston.purge_cache("bash", version)), {"entries", "bytes"})
        piston.set_package("bash", version, cache=None, cache_ttl_ms=None)
        self.assertNotEqual(piston.cache("bash", version)["ttl_ms"], 60_000)
        with self.assertRaises(ValueError):
            piston.cache("bash")

    def test_tokens_are_made_and_revoked(self) -> None:
        piston = Piston()
        made = piston.create_token("school", rate="10/s", concurrency=2)
        self.assertTrue(made["secret"].startswith("pst_"))
        listed = [token for token in piston.tokens() if token["id"] == made["id"]]
        self.assertEqual(listed[0]["name"], "school")
        self.assertNotIn("secret", listed[0])
        piston.revoke_token(made["id"])
        self.assertNotIn(made["id"], [token["id"] for token in piston.tokens()])

    def test_an_operators_limits_are_checked_and_set(self) -> None:
        piston = Piston()
        before = piston.runners()
        with self.assertRaises(Refused):
            piston.set_runners([{"nonsense": 1}], check=True)
        entries = [{"language": "bash", "limits": {"run": {"processes": 32}}}]
        piston.set_runners(entries, check=True)
        self.assertEqual(piston.runners(), before)
        self.assertEqual(len(piston.set_runners(entries)["runners"]), 1)
        piston.set_runners(before["runners"])
        self.assertEqual(piston.runners()["runners"], before["runners"])

    def test_what_is_installed_is_told(self) -> None:
        piston = Piston()
        (bash,) = [package for package in piston.packages() if package["language"] == "bash"]
        self.assertEqual(piston.package("bash", bash["version"]), bash)
        self.assertIn("bash", [runtime["language"] for runtime in piston.runtimes()])
        self.assertIn("version", piston.version())
        self.assertIn("entries", piston.cache())
        self.assertEqual(set(piston.purge_cache()), {"entries", "bytes"})
        self.assertIsInstance(piston.info(), dict)

    def test_repositories_come_and_go(self) -> None:
        piston = Piston()
        piston.add_repository("school", "http://127.0.0.1:9/index.yaml")
        self.assertIn("school", [repository["name"] for repository in piston.repositories()])
        with self.assertRaises(Refused) as caught:
            piston.available(repository="school", sync=True)
        self.assertEqual(caught.exception.code, "repository_unavailable")
        piston.remove_repository("school")
        self.assertNotIn("school", [repository["name"] for repository in piston.repositories()])


class Addresses(unittest.TestCase):
    def test_an_address_that_is_none_is_refused_at_once(self) -> None:
        for address in ["run/piston.sock", "unix://run/piston.sock", "ftp://host", "http://"]:
            with self.assertRaises(ValueError, msg=address):
                Piston(address)

    def test_a_daemon_that_is_not_there_is_unreachable(self) -> None:
        for address in ["/nowhere/piston.sock", "unix:///nowhere/piston.sock", "http://127.0.0.1:9"]:
            with self.assertRaises(Unreachable) as caught:
                Piston(address).version()
            self.assertIn(address, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
