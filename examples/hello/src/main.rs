//! A small HTTP server to run in a container: it shows which instance answered, and can be asked to stream, to fail,
//! to be slow, to echo. It knows nothing of Berth but one environment variable, the instance's id.
//!
//! * `main` starts, listens and ends in good order.
//! * `answer` chooses what to do by the END of the path, since the path arrives as the client wrote it.
//! * `body`, `inside`, `output` and `socket` do it.

mod answer;
mod body;
mod inside;
mod output;
mod settings;
mod socket;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use answer::After;
use settings::Settings;

/// Pause after a failed accept, so that a lack of descriptors does not turn into a busy loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

fn main() -> std::io::Result<()> {
    let started = inside::uptime();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(Arc::new(Settings::from_env()), &started))
}

async fn run(settings: Arc<Settings>, started: &str) -> std::io::Result<()> {
    let ending = watch_signals(settings.ignore_term)?;
    tokio::time::sleep(settings.start_delay).await;
    if settings.never_listen {
        println!("hello: never listening, as asked");
        ended(&mut ending.clone()).await;
        return Ok(());
    }
    let listener = TcpListener::bind(("0.0.0.0", settings.port)).await?;
    let address = listener.local_addr()?;
    println!(
        "hello: listening on {address}, instance {}, started at {started} s of uptime",
        settings.instance
    );
    let connections = accept(&listener, &settings, &ending).await;
    drop(listener);
    connections.join_all().await;
    println!("hello: ended in good order at {} s of uptime", inside::uptime());
    Ok(())
}

/// Turns true when the server is asked to end.
fn watch_signals(ignore_term: bool) -> std::io::Result<watch::Receiver<bool>> {
    let (tell, ending) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => match ignore_term {
                    true => println!("hello: SIGTERM ignored, as asked"),
                    false => break,
                },
            }
        }
        tell.send_replace(true);
    });
    Ok(ending)
}

/// Completes once the server is asked to end.
pub(crate) async fn ended(ending: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped, which happens only after it has sent.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Accepts connections until the server is asked to end; returns those still being served.
async fn accept(
    listener: &TcpListener,
    settings: &Arc<Settings>,
    ending: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let mut over = ending.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, settings.clone(), ending.clone()));
                }
                Err(error) => {
                    eprintln!("hello: accepting a connection failed: {error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = ended(&mut over) => return connections,
        }
    }
}

/// Serves one connection, then does the work that its last response left.
async fn connection(stream: TcpStream, settings: Arc<Settings>, mut ending: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let after = Arc::new(Mutex::new(None));
    let service = service_fn(|request| answer::answer(request, settings.clone(), after.clone()));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = ended(&mut ending) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if served.is_err() {
        return; // The client went away; there is nobody to tell.
    }
    let left = after.lock().map(|mut after| after.take()).unwrap_or_default();
    match left {
        Some(After::Exit(code)) => std::process::exit(code),
        Some(After::Socket(upgrade)) => socket::serve(upgrade, ending).await,
        None => {}
    }
}
