"""Programs that are run, bounded and logged; the two ways in which a check can end early."""

import os
import signal
import subprocess
import time


class Failed(Exception):
    """Something that must hold did not. The message is printed beside the table."""


class NotApplicable(Exception):
    """The client cannot do this, or this machine cannot. The message says why."""


def must(condition, message):
    if not condition:
        raise Failed(message)


class Shell:
    """Runs programs with one environment and appends what they say to one log file."""

    def __init__(self, log):
        self.log = log
        self.env = dict(os.environ)

    def start(self, *argv, env=None):
        """Starts a program in a process group of its own; the caller ends it with `end`."""
        log = open(self.log, "ab")
        self._note(log, argv)
        with log:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**self.env, **(env or {})}, start_new_session=True)

    def run(self, *argv, stdin=b"", timeout=120, env=None, cwd=None):
        """Runs a program to its end and returns its standard output; anything but exit 0 is a failure."""
        code, out, err = self._finish(argv, stdin, timeout, env, cwd)
        if code != 0:
            raise Failed(f"`{_shown(argv)}` exited {code}: {last_line(err or out)}")
        return out

    def refused(self, *argv, saying, stdin=b"", timeout=60, env=None):
        """Runs a program that must fail, and must say one of the words why."""
        code, out, err = self._finish(argv, stdin, timeout, env)
        must(code != 0, f"`{_shown(argv)}` was let through")
        said = (out + err).lower()
        must(any(word in said for word in saying),
             f"`{_shown(argv)}` failed without saying {' or '.join(saying)}: {last_line(err or out)}")

    def outcome(self, *argv, timeout=120, env=None):
        """Runs a program to its end and returns its exit code, standard output and standard error."""
        return self._finish(argv, b"", timeout, env)

    def _finish(self, argv, stdin, timeout, env, cwd=None):
        with open(self.log, "ab") as log:
            self._note(log, argv)
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**self.env, **(env or {})}, cwd=cwd, start_new_session=True)
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                end(process)
                raise Failed(f"`{_shown(argv)}` did not end within {timeout} s") from None
            log.write(out + err + f"[exit {process.returncode}]\n".encode())
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    @staticmethod
    def _note(log, argv):
        log.write(f"\n[{time.strftime('%H:%M:%S')}] $ {' '.join(map(str, argv))}\n".encode())
        log.flush()


def end(process):
    """Kills a process that `Shell` started, with the children in its process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "(it said nothing)"


def _shown(argv):
    text = " ".join(map(str, argv))
    return text if len(text) <= 160 else text[:157] + "..."
