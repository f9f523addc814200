//! The reverse proxies of docs/proxy.md, with the configurations that stand there: what the app then sees of a client.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::{packages, ports, programs, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a proxy may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a client claims about itself.
const FORGED: [&str; 6] = [
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: gopher",
    "X-Forwarded-Host: evil.example",
    "Forwarded: for=6.6.6.6;proto=gopher;host=evil.example",
    "X-Real-IP: 6.6.6.6",
    "X_Forwarded_For: 6.6.6.6",
];

/// A proxy's process; ended with this value.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its workers.
        let _ = i32::try_from(self.0.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
        let _ = self.0.wait();
    }
}

/// The block of docs/proxy.md in this language, with this scenario's addresses and certificate.
fn configuration(language: &str, replaced: &[(&str, String)]) -> Result<String> {
    let page = fs::read_to_string(Path::new(programs::ROOT).join("docs/proxy.md"))?;
    let begin = format!("```{language}\n");
    let (_, rest) = page.split_once(&begin).context("docs/proxy.md has no such block")?;
    let (block, _) = rest.split_once("```").context("the block does not end")?;
    let mut block = block.to_owned();
    for (from, to) in replaced {
        ensure!(block.contains(from), "the block has no `{from}`: {block}");
        block = block.replace(from, to);
    }
    Ok(block)
}

/// A certificate for example.com.
fn certificate(directory: &Path) -> Result<[String; 2]> {
    let made = rcgen::generate_simple_self_signed(vec!["example.com".to_owned()])?;
    fs::write(directory.join("tls.pem"), made.cert.pem())?;
    fs::write(directory.join("tls.key"), made.signing_key.serialize_pem())?;
    Ok(["tls.pem", "tls.key"].map(|name| directory.join(name).display().to_string()))
}

async fn started(mut command: Command, address: SocketAddr, log: &Path) -> Result<Proxy> {
    let output = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let proxy = Proxy(command.spawn().with_context(|| format!("run {command:?}"))?);
    let listening = wait::until("the proxy", PATIENCE, async || {
        Ok(tokio::net::TcpStream::connect(address).await.map(drop)?)
    });
    listening.await.with_context(|| fs::read_to_string(log).unwrap_or_default())?;
    Ok(proxy)
}

async fn nginx(cluster: &Cluster, directory: &Path, listen: SocketAddr) -> Result<Proxy> {
    packages::need(&[("nginx", "nginx-light")])?;
    let [cert, key] = certificate(directory)?;
    let server = configuration(
        "nginx",
        &[
            ("listen 443 ssl", format!("listen {listen} ssl")),
            ("127.0.0.1:8080", cluster.address().to_string()),
            ("/etc/ssl/example.com.pem", cert),
            ("/etc/ssl/example.com.key", key),
        ],
    )?;
    let dir = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
        .concat();
    let whole = format!(
        "daemon off;\npid {dir}/pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n\
         {temporary}{server}}}\n"
    );
    let path = directory.join("nginx.conf");
    fs::write(&path, whole)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&path).arg("-e").arg(directory.join("start.log"));
    started(command, listen, &directory.join("nginx.out")).await
}

async fn caddy(cluster: &Cluster, directory: &Path, listen: SocketAddr) -> Result<Proxy> {
    packages::need(&[("caddy", "caddy")])?;
    let [cert, key] = certificate(directory)?;
    let site = configuration(
        "caddy",
        &[
            ("example.com {", format!("https://example.com:{} {{\n\ttls {cert} {key}", listen.port())),
            ("127.0.0.1:8080", cluster.address().to_string()),
        ],
    )?;
    let path = directory.join("Caddyfile");
    fs::write(&path, format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}"))?;
    let mut command = Command::new("caddy");
    command.arg("run").arg("--adapter").arg("caddyfile").arg("--config").arg(&path);
    command.env("HOME", directory).env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
    started(command, listen, &directory.join("caddy.out")).await
}

/// What the app sees of a request by a client of the crowd through a proxy, with forged headers.
async fn seen_through(cluster: &Cluster, port: u16) -> Result<String> {
    let crowd = cluster.crowd()?;
    let [enter, namespace] = crowd.entrance();
    let mut command = Command::new(enter);
    command.args([&namespace, "curl", "-sSk", "--http1.1", "--max-time", "30"]);
    command.arg("--resolve").arg(format!("example.com:{port}:{}", crowd.edge()));
    for header in FORGED {
        command.args(["-H", header]);
    }
    command.arg(format!("https://example.com:{port}/container/1/headers"));
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).to_lowercase())
}

fn expect_lines(seen: &str, expected: &[String]) -> Result<()> {
    for line in expected {
        ensure!(seen.lines().any(|found| found == line), "the app has not seen `{line}`, but:\n{seen}");
    }
    let forged = ["6.6.6.6", "gopher", "evil.example"];
    ensure!(!forged.iter().any(|word| seen.contains(word)), "the app has seen what was forged:\n{seen}");
    Ok(())
}

fn behind(proxy: impl AsyncFn(&Cluster, &Path, SocketAddr) -> Result<Proxy>, directory: PathBuf) -> Outcome {
    let edge_options = vec!["--trust-proxy=127.0.0.1".to_owned()];
    scenario(Setup { crowd: Some(1), edge_options, ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App::default()).await?;
        let crowd = cluster.crowd()?;
        let (client, port) = (crowd.client(0), ports::free_address()?.port());
        let _proxy = proxy(cluster, &directory, (crowd.edge(), port).into()).await?;
        let expected = [
            format!("x-forwarded-for: {client}, 127.0.0.1"),
            "x-forwarded-proto: https".to_owned(),
            format!("x-forwarded-host: example.com:{port}"),
            format!("host: example.com:{port}"),
        ];
        expect_lines(&seen_through(cluster, port).await?, &expected)?;

        // Without the proxy, the same client has nobody who vouches for it.
        let direct = crowd.connect(0, cluster.address().port(), 1)?.remove(0);
        let claims =
            [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6"), ("x-forwarded-proto", "https")];
        let seen = Client::over(direct, "/container/1/headers", &claims).await?.success()?.text;
        expect_lines(&seen, &[format!("x-forwarded-for: {client}"), "x-forwarded-proto: http".to_owned()])
    })
}

#[test]
fn behind_nginx_the_app_sees_the_client_and_https() -> Outcome {
    let directory = tempfile::tempdir().context("a directory")?;
    behind(nginx, directory.path().to_owned())
}

#[test]
fn behind_caddy_the_app_sees_the_client_and_https() -> Outcome {
    let directory = tempfile::tempdir().context("a directory")?;
    behind(caddy, directory.path().to_owned())
}
