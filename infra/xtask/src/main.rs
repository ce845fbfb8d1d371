//! `cargo xtask`: the commands of contributors.

#![allow(clippy::print_stdout, reason = "it is a command line tool")]

mod ci;
mod endpoint;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The help text, printed on request and after a mistake.
const HELP: &str = "\
Usage: cargo xtask COMMAND

Commands:
  ci [--from STAGE | --only STAGE]  All that must hold before a change lands (.ci/run), from a stage on, or one stage
  ci --list                         The stages
  interop [ARGS]                    Hawser between real clients, servers, issuer and browser (.ci/interop)
  conformance [ARGS]                Both sides of the MCP conformance suite (.ci/conformance)
  aws-like [ARGS]                   Stacks, and the integration suite, on another emulator of AWS (.ci/aws-like)
  bench [ARGS]                      The benchmarks, such as: bench --small
  new-endpoint NAME [METHOD PATH]   Writes the places that name an endpoint, such as:
                                    new-endpoint hawser-list-things GET /v1/things
  help                              This text";

/// The result of a command. The error is a sentence for people.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Outcome {
    match arguments {
        [] | ["help" | "--help" | "-h"] | [_, "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        ["ci", rest @ ..] => ci::run(rest),
        ["interop", rest @ ..] => checked(Command::new(root().join(".ci/interop")).args(rest)),
        ["conformance", rest @ ..] => {
            checked(Command::new(root().join(".ci/conformance")).args(rest))
        }
        ["aws-like", rest @ ..] => checked(Command::new(root().join(".ci/aws-like")).args(rest)),
        ["bench", rest @ ..] => {
            let bench = ["bench", "--locked", "--package", "hawser-local", "--bench"];
            let mut command = Command::new("cargo");
            checked(command.args(bench).args(["bench", "--"]).args(rest))
        }
        ["new-endpoint", name] => endpoint::write(&root(), name, None),
        ["new-endpoint", name, method, path] => {
            endpoint::write(&root(), name, Some((method, path)))
        }
        _ => Err(format!("no such command\n\n{HELP}")),
    }
}

/// The root of the checkout that this program was built from.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Runs a command at the root of the checkout.
fn checked(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.current_dir(root()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name}: {status}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
