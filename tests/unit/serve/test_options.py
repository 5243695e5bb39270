"""The flags of ``resnet-serve``: what makes no sense is wrong usage, and nothing is started."""

from __future__ import annotations

import pytest
from resnet_serve.options import parser


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--exit-after",), "--exit-after stops after the command of --then"),
        (("--then", ""), "argument --then: it names no command"),
        (("--then", "sh -c 'true"), "argument --then: No closing quotation"),
        (("--model-config-name", "configs/tuned"), "argument --model-config-name: 'configs/tuned' is not a name"),
        (("--", "--model-config-name=tuned"), "--model-config-name is an option of resnet-serve: write it before --"),
        *(
            (("--ready-timeout-s", text), f"argument --ready-timeout-s: {text!r} is no number of seconds above 0")
            for text in ("nan", "0", "soon")
        ),
        *(
            (
                ("--exit-timeout-s", text),
                f"argument --exit-timeout-s: {text!r} is no whole number of seconds, 0 or more",
            )
            for text in ("-1", "0.5", "soon")
        ),
    ],
)
def test_senseless_options_are_refused(
    arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the option's name, and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_options_are_read() -> None:
    """The command is split into words; what follows -- is Triton's."""
    command = ["--then", "sh -c 'exit 3'", "--exit-after", "--ready-timeout-s", "0.5", "--exit-timeout-s", "0"]
    found = parser().parse_args([*command, "--", "--log-verbose=1"])
    assert (found.then, found.exit_after, found.triton_args) == (["sh", "-c", "exit 3"], True, ["--log-verbose=1"])
    assert (found.ready_timeout_s, found.exit_timeout_s) == (0.5, 0)


def test_help_tells_that_no_shell_runs_the_command() -> None:
    """Else `--then "cmd | tee log"` would be a riddle."""
    assert "no shell runs it" in " ".join(parser().format_help().split())
