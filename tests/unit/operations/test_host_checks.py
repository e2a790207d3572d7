"""holdfast.operations.host_checks."""

from pathlib import Path

from holdfast.operations import host_checks
from holdfast.operations.findings import Level


def test_a_clock_before_this_program_was_written_is_a_problem() -> None:
    (finding,) = host_checks.check_clock(now_s=1_000_000_000)

    assert finding.level is Level.PROBLEM
    assert "set the clock" in finding.advice


def test_all_libraries_of_this_project_load() -> None:
    (finding,) = host_checks.check_program()

    assert finding.level is Level.GOOD


def test_a_configuration_others_can_change_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[stores.a]\npath = "/a"\n')
    path.chmod(0o666)

    settings, findings = host_checks.check_configuration(str(path))

    assert settings is not None
    assert [finding.level for finding in findings] == [Level.GOOD, Level.PROBLEM]
    assert findings[1].advice == f"chmod go-w {path}"


def test_a_broken_configuration_is_a_finding_and_no_exception(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[stores.a]\npath = 3\n")

    settings, (finding,) = host_checks.check_configuration(str(path))

    assert settings is None
    assert finding.level is Level.PROBLEM
    assert "line 2" in finding.message


def test_a_key_file_others_can_open_is_a_problem(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o644)
    path = tmp_path / "config.toml"
    path.write_text(f'[stores.a]\npath = "/a"\nkeyfile = "{key}"\n')

    _settings, findings = host_checks.check_configuration(str(path))

    assert [finding.advice for finding in findings if finding.level is Level.PROBLEM] == [
        f"chmod 600 {key}"
    ]


def test_a_file_in_the_place_of_the_state_directory_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")

    (finding,) = host_checks.check_state_directory(str(tmp_path / "state" / "tasks"))

    assert finding.level is Level.PROBLEM
