//! One condition of writes left out on its way to the store, to see which test notices (tests/mutants/run).

#[path = "../../simulation/conditions.rs"]
mod conditions;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{LazyLock, Mutex};
use std::{env, thread};

static WITHOUT: LazyLock<Option<String>> = LazyLock::new(|| env::var("HAWSER_WITHOUT").ok());
static NOTED: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
    let path = env::var_os("HAWSER_CONDITIONS")?;
    let file = OpenOptions::new().create(true).append(true).open(path);
    Some(Mutex::new(file.unwrap()))
});

/// The request without the condition that `HAWSER_WITHOUT` names, if it has it. Where `HAWSER_CONDITIONS` names a file,
/// every condition is noted there, with the test that has sent it.
pub fn without_one(operation: &str, body: &[u8]) -> Option<String> {
    if WITHOUT.is_none() && NOTED.is_none() {
        return None;
    }
    let body = std::str::from_utf8(body).ok()?;
    let (names, changed) = conditions::look(operation, body, WITHOUT.as_deref());
    if let Some(file) = &*NOTED {
        let test = thread::current().name().unwrap_or_default().to_owned();
        let lines: String = names.iter().map(|one| format!("{test}\t{one}\n")).collect();
        file.lock().unwrap().write_all(lines.as_bytes()).unwrap();
    }
    changed
}
