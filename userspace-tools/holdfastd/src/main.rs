// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! holdfastd: keeps connections alive after their server died. See `holdfastd --help`.

#![forbid(unsafe_code)]

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::{mpsc, oneshot};

use holdfastd::config::Config;
use holdfastd::control::{self, Asked, Request};
use holdfastd::daemon::Daemon;
use holdfastd::descriptors;
use holdfastd::help::HELP;
use holdfastd::module::Module;
use holdfastd::notify::notify;
use holdfastd::scrape;
use holdfastd::seal::{random, Secret};

struct Options {
    config: PathBuf,
    json: bool,
    check: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let config = "/etc/holdfast/holdfastd.toml".into();
    let mut o = Options {
        config,
        json: false,
        check: false,
    };
    while let Some(arg) = args.next() {
        match &*arg {
            "--config" => o.config = args.next().ok_or("--config needs a file")?.into(),
            "--log-json" => o.json = true,
            "--check" => o.check = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument {other:?}\n{HELP}")),
        }
    }
    Ok(Some(o))
}

/// A number of this start of the machine.
fn boot() -> Result<u64, String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let digits: String = id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(16)
        .collect();
    u64::from_str_radix(&digits, 16).map_err(|e| format!("{path}: {e}"))
}

async fn run(o: Options) -> Result<(), String> {
    let config = Config::read(&o.config)?;
    let secret = Secret::read(&config.node.secret_file)?;
    if o.check {
        return Ok(());
    }
    let mut term = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut int = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let path = config.node.control.clone();
    let socket = control::bind(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (ask, asked) = mpsc::channel(16);
    if let Some(at) = config.metrics.listen {
        tokio::spawn(scrape::serve(scrape::bind(at).await?, ask.clone()));
    }
    tokio::spawn(reload(ask.clone())?);
    tokio::spawn(control::serve(socket, ask));
    // The log first: services without a reader are not protected.
    let (module, log) = Module::open().await?;
    let daemon = Daemon::new(config, &secret, module, o.json, (boot()?, random())).await?;
    notify("READY=1");
    let stop = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        notify("STOPPING=1");
    };
    let ended = daemon.run(log, asked, stop).await;
    let _ = std::fs::remove_file(path);
    ended
}

/// Asks for a reload at each SIGHUP; the timeline says what came of it.
fn reload(ask: mpsc::Sender<Asked>) -> Result<impl Future<Output = ()>, String> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| e.to_string())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            let (reply, answer) = oneshot::channel();
            if ask.send((Request::Reload, reply)).await.is_err() {
                return;
            }
            let _ = answer.await;
        }
    })
}

fn main() -> ExitCode {
    let failed = |why: String| {
        eprintln!("holdfastd: {why}");
        ExitCode::FAILURE
    };
    let o = match options(std::env::args().skip(1)) {
        Err(why) => return failed(why),
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Some(o)) => o,
    };
    if let Err(e) = descriptors::raise() {
        eprintln!("holdfastd: descriptors: {e}");
    }
    // One thread: all decisions are made one after the other.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Err(e) => return failed(e.to_string()),
        Ok(runtime) => runtime,
    };
    // As a task: one that is woken by another one costs no system call, as the runtime's own future
    // does.
    match runtime.block_on(async { tokio::spawn(run(o)).await }) {
        Ok(Err(why)) => failed(why),
        Ok(Ok(())) => ExitCode::SUCCESS,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => failed(e.to_string()),
        },
    }
}
