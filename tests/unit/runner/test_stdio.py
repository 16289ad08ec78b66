import os

from atoll.agent.runner import stdio


def test_everything_that_writes_comes_in_order(context):
    code = """
import ctypes, os, subprocess, sys
print('print')
sys.stdout.write('no newline ')
sys.stdout.buffer.write(b'buffer ')
os.write(1, b'descriptor ')
ctypes.CDLL(None).puts(b'from C')
subprocess.run(['echo', 'child'])
print('last')
"""
    assert context.run(code).stdout == "print\nno newline buffer descriptor from C\nchild\nlast\n"


def test_output_streams_before_the_cell_ends(context):
    context.start("import sys\nprint('partial', end='')\nwhile True: pass")
    context.until_prints("partial")
    context.interrupt()
    context.finish()


def test_standard_error_is_its_own_stream(context):
    outcome = context.run("import sys, warnings\nprint('x', file=sys.stderr)\nwarnings.warn('careful')")
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("x\n<cell 1>:3: UserWarning: careful\n")


def test_surrogates_are_printed_escaped(context):
    assert context.run("print('\\ud800 é')").stdout == "\\ud800 é\n"


def test_closed_standard_output_is_replaced(context):
    context.run("import sys\nsys.stdout.close()")
    assert context.run("print('back')").stdout == "back\n"


def test_redirected_standard_output_stays_with_the_program(context):
    context.run("import io, sys\nkept = sys.stdout\nsys.stdout = io.StringIO()")
    assert context.run("print('hidden')").stdout == ""
    assert context.run("sys.stdout = kept\nprint('seen')").stdout == "seen\n"


def test_large_output_is_whole(context):
    assert len(context.run("print('x' * 3_000_000)").stdout) == 3_000_001


def test_reading_standard_input_finds_nothing(context):
    assert context.run("import sys\nsys.stdin.read()").text == "''"
    assert context.run("import subprocess\nsubprocess.run(['cat']).returncode").text == "0"


def test_pipe_left_non_blocking_by_a_child_loses_nothing():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        stdio.PipeWriter(writer, "w", closefd=False).write(b"x" * 300_000)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert len(file.read()) == 300_000
    assert os.waitpid(pid, 0)[1] == 0
