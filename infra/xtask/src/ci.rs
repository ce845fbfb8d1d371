//! `cargo xtask ci`: the stages of what must hold before a change lands, in order.

use crate::{Outcome, checked, root};
use std::env;
use std::process::Command;

/// One stage.
struct Stage {
    /// The name, for `--from` and `--only`.
    name: &'static str,
    /// The heading that is printed when the stage begins.
    title: &'static str,
    /// Lines of bash, run at the root of the checkout. The first that fails ends the stage. `$tools` is the folder that
    /// the `tools` stage installs programs into; its `bin` is on the path.
    script: &'static str,
}

const STAGES: &[Stage] = &[
    Stage {
        name: "tools",
        title: "tools",
        script: r#"
            python3 -m venv "$tools"
            "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement .ci/requirements.txt
            .ci/interop --install"#,
    },
    Stage {
        name: "formatting",
        title: "formatting",
        script: "
            cargo fmt --all --check
            cargo fmt --manifest-path tests/interop/rmcp/Cargo.toml --check
            python3 tests/citations.py
            python3 tests/layers.py",
    },
    Stage {
        name: "dependencies",
        title: "dependencies",
        // Only the command line may depend on the crates by which people get AWS credentials.
        script: "
            cargo fetch --locked
            cargo deny --offline check bans licenses sources
            ! cargo tree --locked --package hawser-functions --edges normal --prefix none \
                | grep --extended-regexp '^(aws-sdk-sso|aws-sdk-signin|dynoxide)'",
    },
    Stage {
        name: "clippy",
        title: "clippy",
        script: "
            cargo clippy --locked --all-targets -- --deny warnings
            cargo clippy --locked --package hawser-simulation --all-targets -- --deny warnings
            cargo clippy --locked --package xtask --all-targets -- --deny warnings
            RUSTDOCFLAGS='--deny warnings' cargo doc --locked --no-deps",
    },
    Stage {
        name: "tests",
        title: "tests",
        script: "
            cargo test --locked
            cargo test --locked --package xtask",
    },
    Stage {
        name: "simulation",
        title: "simulated histories",
        script: "
            HAWSER_HISTORIES=300 cargo test --locked --package hawser-simulation
            tests/mutants/run --check",
    },
    Stage {
        name: "addresses",
        title: "addresses",
        script: "
            cargo build --locked --example classify
            python3 tests/ssrf/addresses.py target/debug/examples/classify",
    },
    Stage {
        name: "openapi",
        title: "the document of the API",
        script: ".ci/openapi",
    },
    Stage {
        name: "fuzzing",
        title: "fuzzing, a minute for each parser that faces outside",
        script: ".ci/fuzz",
    },
    Stage {
        name: "benchmarks",
        title: "benchmarks, in a size that only shows that they work",
        script: "cargo bench --locked --profile dev --bench bench -- --small",
    },
    Stage {
        name: "template",
        title: "template",
        script: r#"
            sam validate --lint --template template.yaml --region us-east-1
            cfn-lint --template template.yaml --include-checks I --regions us-east-1
            "$tools/bin/python" tests/template.py target/transformed.json
            checkov --config-file .checkov.yaml --file target/transformed.json --skip-download"#,
    },
    Stage {
        name: "cargo-lambda",
        title: "the Lambda binaries under cargo-lambda",
        script: ".ci/lambda cargo-lambda",
    },
    Stage {
        name: "emulator",
        title: "the Lambda binaries under AWS's runtime interface emulator",
        script: ".ci/lambda emulator",
    },
    Stage {
        name: "listener",
        title: "the Lambda binaries where every address leads to a listener",
        script: r#""$tools/bin/python" tests/ssrf/everywhere.py"#,
    },
    Stage {
        name: "interop",
        title: "interoperability",
        script: ".ci/interop",
    },
    Stage {
        name: "conformance",
        title: "conformance",
        script: ".ci/conformance",
    },
];

/// Runs the stages that the arguments choose.
pub fn run(arguments: &[&str]) -> Outcome {
    let chosen = match arguments {
        [] => STAGES,
        ["--list"] => {
            for stage in STAGES {
                println!("{:<14}{}", stage.name, stage.title);
            }
            return Ok(());
        }
        ["--from", name] => &STAGES[position(name)?..],
        ["--only", name] => {
            let at = position(name)?;
            &STAGES[at..=at]
        }
        _ => return Err("ci takes --from STAGE, --only STAGE or --list".to_owned()),
    };
    let tools = root().join("target/ci-tools");
    let path = env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", tools.join("bin").display());
    for stage in chosen {
        println!("\n== {}", stage.title);
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", stage.script])
            .env("tools", &tools)
            .env("PATH", &path)
            .env("SAM_CLI_TELEMETRY", "0");
        checked(&mut bash).map_err(|why| {
            let name = stage.name;
            format!("the stage {name} failed ({why}); to go on there: cargo xtask ci --from {name}")
        })?;
    }
    println!("\n== all good");
    Ok(())
}

fn position(name: &str) -> Outcome<usize> {
    let at = STAGES.iter().position(|stage| stage.name == name);
    at.ok_or_else(|| format!("no stage is called {name}; cargo xtask ci --list names them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_stage_has_a_name_of_its_own_and_sound_bash() {
        let names: BTreeSet<_> = STAGES.iter().map(|stage| stage.name).collect();
        assert_eq!(names.len(), STAGES.len());
        for stage in STAGES {
            let checked = Command::new("bash")
                .args(["-n", "-c", stage.script])
                .status();
            assert!(checked.unwrap().success(), "{}", stage.name);
        }
    }

    #[test]
    fn a_stage_that_is_not_there_is_named() {
        for arguments in [["--only", "nothing"], ["--from", "nothing"]] {
            assert!(run(&arguments).unwrap_err().contains("nothing"));
        }
        assert!(run(&["--only"]).is_err());
    }
}
