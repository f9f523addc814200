//! nginx in front of nginx with mutual TLS 1.3 between them, configured as an expert does: the peer that edge and agent
//! are compared with.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::server::Server;
use crate::{host, packages, ports};

/// Settings that both roles have.
const COMMON: &str = "daemon off;
worker_processes 2;
worker_rlimit_nofile 65536;
error_log {dir}/{role}.log warn;
pid {dir}/{role}.pid;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path {dir}/{role}-body;
  proxy_temp_path {dir}/{role}-proxy;
  fastcgi_temp_path {dir}/{role}-fastcgi;
  uwsgi_temp_path {dir}/{role}-uwsgi;
  scgi_temp_path {dir}/{role}-scgi;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_body_buffer_size 256k;
  tcp_nodelay on;
  upstream next {
    server {next};
    keepalive 512;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }
{server}
}
";

/// Plain HTTP in, mutual TLS out.
const EDGE: &str = "  server {
    listen {listen} reuseport backlog=4096;
    location / {
      proxy_pass https://next;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_session_reuse on;
      proxy_ssl_certificate {certs}/edge-{edge}.pem;
      proxy_ssl_certificate_key {certs}/edge-{edge}.key;
      proxy_ssl_trusted_certificate {certs}/ca.pem;
      proxy_ssl_verify on;
      proxy_ssl_name {node};
    }
  }";

/// Mutual TLS in, plain HTTP out.
const NODE: &str = "  server {
    listen {listen} ssl reuseport backlog=4096;
    ssl_protocols TLSv1.3;
    ssl_certificate {certs}/agent-{node}.pem;
    ssl_certificate_key {certs}/agent-{node}.key;
    ssl_client_certificate {certs}/ca.pem;
    ssl_verify_client on;
    ssl_session_cache shared:tls:10m;
    ssl_session_timeout 1h;
    location / {
      proxy_pass http://next;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }
  }";

/// Both nginx, and the app behind them.
#[derive(Debug)]
pub struct Chain {
    // In the order of their ending.
    edge: Server,
    node: Server,
    _app: Server,
    address: SocketAddr,
}

/// What the chain is made of.
#[derive(Debug)]
pub struct ChainSetup<'a> {
    /// Where configuration and logs go.
    pub directory: PathBuf,
    /// Where `berth certs` has put the certificates that both chains use.
    pub certificates: PathBuf,
    /// Name of the edge's certificate.
    pub edge: &'a str,
    /// Name of the agent's certificate.
    pub node: &'a str,
    /// The app, which listens on the port in the variable `PORT`.
    pub app: Command,
}

impl Chain {
    /// Starts all three.
    pub fn start(setup: ChainSetup<'_>) -> Result<Self> {
        packages::need(&[("nginx", "nginx-light")])?;
        let [app, node, edge] = [ports::free_address()?, ports::free_address()?, ports::free_address()?];
        let mut command = Command::new(setup.app.get_program());
        command.args(setup.app.get_args()).env("PORT", app.port().to_string());
        let app_server = Server::start(&command, &setup.directory.join("app.log"), app)?;
        let node_server = setup.start_role("node", NODE, node, app)?;
        let edge_server = setup.start_role("edge", EDGE, edge, node)?;
        Ok(Self { edge: edge_server, node: node_server, _app: app_server, address: edge })
    }

    /// Where it takes requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time that both nginx have used, without the app.
    pub fn cpu_time(&self) -> Result<Duration> {
        [&self.edge, &self.node].iter().map(|server| host::cpu_time_of_family(server.pid())).sum()
    }
}

impl ChainSetup<'_> {
    fn start_role(&self, role: &str, server: &str, listen: SocketAddr, next: SocketAddr) -> Result<Server> {
        let text = COMMON.replace("{server}", server);
        let values = [
            ("{role}", role.to_owned()),
            ("{dir}", self.directory.to_string_lossy().into_owned()),
            ("{certs}", self.certificates.to_string_lossy().into_owned()),
            ("{listen}", listen.to_string()),
            ("{next}", next.to_string()),
            ("{edge}", self.edge.to_owned()),
            ("{node}", self.node.to_owned()),
        ];
        let text = values.iter().fold(text, |text, (name, value)| text.replace(name, value));
        let path = self.directory.join(format!("{role}.conf"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-c").arg(&path).arg("-e").arg(self.directory.join(format!("{role}-start.log")));
        ensure!(Path::new("/usr/sbin/nginx").exists(), "/usr/sbin/nginx is missing; install nginx-light");
        Server::start(&nginx, &self.directory.join(format!("{role}.out")), listen)
    }
}
