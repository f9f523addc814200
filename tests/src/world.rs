//! A small internet made of network namespaces: one for a node, and one for everything that it can reach. Needs root.
//!
//! ```text
//!  this process's namespace      HOST (the node's daemons)             WORLD (servers of the tests)
//!  10.213.X.1 ───────────────── 10.213.X.2   8.8.9.2 ───────────────── 8.8.9.1   9.9.9.9, 10.1.2.3, ...
//!   (edge, clients)                          2620:fe:1::2 ──────────── 2620:fe:1::1   2620:fe::9, fd12::3
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};

/// Addresses of the world that the internet has.
pub const PUBLIC: [&str; 2] = ["9.9.9.9", "2620:fe::9"];
/// Addresses of the world that are private, shared or link-local: there, and not to be reached.
pub const PRIVATE: [&str; 5] = ["10.1.2.3", "172.20.1.1", "100.64.1.1", "169.254.169.254", "fd12::3"];
/// The node's own addresses.
pub const OWN: [&str; 2] = ["8.8.9.2", "2620:fe:1::2"];
/// The name that the world's name server knows; it is at `PUBLIC`'s first address.
pub const NAME: &str = "world.example";
/// The greeting of the world's servers.
pub const GREETING: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nworld\n";

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
/// Longest message of the name server, in bytes: plain DNS has no longer ones.
const MAX_DNS_BYTES: usize = 512;

static WORLDS: AtomicU8 = AtomicU8::new(0);

/// A node's namespace with a world around it; removed with this value.
#[derive(Debug)]
pub struct World {
    name: String,
    subnet: [u8; 2],
}

impl World {
    /// Makes one. `name` distinguishes it from others on this machine.
    pub fn make(name: &str) -> Result<Self> {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed) % 64;
        let subnet = [u8::try_from(std::process::id() % 250)?, number * 4];
        let world = Self { name: name.to_owned(), subnet };
        world.connect().context("make a test world (this needs root and iproute2)")?;
        Ok(world)
    }

    fn connect(&self) -> Result<()> {
        let (host, world) = (self.host(), self.outside());
        for namespace in [&host, &world] {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        ip(&["link", "add", "out0", "netns", &host, "type", "veth", "peer", "name", "in0", "netns", &world])?;
        let outer = format!("bt{}x{}", self.subnet[0], self.subnet[1]);
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", "ctl0", "netns", &host])?;
        ip(&["addr", "add", &format!("{}/30", self.address(1)), "dev", &outer])?;
        ip(&["link", "set", &outer, "up"])?;
        let control = format!("{}/30", self.control_address());
        for (namespace, link, addresses) in [
            (&host, "ctl0", &[control.as_str()][..]),
            (&host, "out0", &["8.8.9.2/24", "2620:fe:1::2/64"]),
            (&world, "in0", &["8.8.9.1/24", "2620:fe:1::1/64"]),
            (
                &world,
                "lo",
                &[
                    "9.9.9.9/32",
                    "2620:fe::9/128",
                    "10.1.2.3/32",
                    "172.20.1.1/32",
                    "100.64.1.1/32",
                    "169.254.169.254/32",
                    "fd12::3/128",
                ],
            ),
        ] {
            ip(&["-n", namespace, "link", "set", link, "up"])?;
            addresses.iter().try_for_each(|address| add_address(namespace, link, address))?;
        }
        ip(&["-n", &host, "route", "add", "default", "via", "8.8.9.1"])?;
        ip(&["-n", &host, "-6", "route", "add", "default", "via", "2620:fe:1::1"])
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet[0], self.subnet[1] + last)
    }

    /// Where this process reaches the node.
    pub fn control_address(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// The node's namespace.
    pub fn host(&self) -> String {
        format!("{}-host", self.name)
    }

    fn outside(&self) -> String {
        format!("{}-world", self.name)
    }

    /// Gives the node one more address.
    pub fn add_to_host(&self, address: &str) -> Result<()> {
        add_address(&self.host(), "out0", address)
    }

    /// Greets every connection to any address of the world at this port, until the process ends.
    pub fn serve_outside(&self, port: u16) -> Result<()> {
        for address in ["0.0.0.0", "::"] {
            let listener = bind(&self.outside(), SocketAddr::new(address.parse()?, port))?;
            thread::spawn(move || listener.incoming().flatten().for_each(greet));
        }
        Ok(())
    }

    /// The same on the node; the listener records whether there was a connection.
    pub fn listen_on_host(&self, address: SocketAddr) -> Result<TcpListener> {
        let listener = bind(&self.host(), address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Answers every question for IPv4 addresses with the first public one, until the process ends.
    pub fn serve_names(&self) -> Result<()> {
        let resolver: IpAddr = PUBLIC[0].parse()?;
        let socket = within(&self.outside(), move || Ok(UdpSocket::bind((resolver, 53))?))?;
        thread::spawn(move || {
            let mut question = [0; MAX_DNS_BYTES];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                if let Some(answer) = answer(&question[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [self.host(), self.outside()] {
            if let Err(error) = ip(&["netns", "delete", &namespace]) {
                eprintln!("removing a test world: {error:#}");
            }
        }
    }
}

/// Removes the namespaces of a dead run.
pub fn sweep(prefix: &str) -> Result<()> {
    for entry in std::fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            ip(&["netns", "delete", &name])?;
        }
    }
    Ok(())
}

/// The command's first arguments, which make the rest run in a namespace.
pub fn entrance(namespace: &str) -> [String; 2] {
    ["nsenter".to_owned(), format!("--net={}", path(namespace).display())]
}

fn path(namespace: &str) -> PathBuf {
    PathBuf::from(NAMES).join(namespace)
}

pub(crate) fn add_address(namespace: &str, link: &str, address: &str) -> Result<()> {
    let mut args = vec!["-n", namespace, "addr", "add", address, "dev", link];
    if address.contains(':') {
        // Usable at once, without duplicate address detection: there is no other machine.
        args.push("nodad");
    }
    ip(&args)
}

pub(crate) fn ip(args: &[&str]) -> Result<()> {
    let output =
        Command::new("ip").args(args).output().context("run `ip`; on Debian: apt-get install iproute2")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), stderr.trim());
    Ok(())
}

/// Runs a function on a thread that is in a namespace. Sockets that it opens stay in that namespace.
pub(crate) fn within<T: Send + 'static>(
    namespace: &str,
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = path(namespace);
    let thread = thread::spawn(move || {
        setns(File::open(&path)?, CloneFlags::CLONE_NEWNET)?;
        act()
    });
    thread.join().map_err(|_| anyhow!("a thread in a namespace panicked"))?
}

fn bind(namespace: &str, address: SocketAddr) -> Result<TcpListener> {
    within(namespace, move || {
        let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into()).with_context(|| format!("listen at {address}"))?;
        socket.listen(64)?;
        Ok(socket.into())
    })
}

fn greet(mut stream: std::net::TcpStream) {
    let _ = stream.write_all(GREETING);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 1024]);
}

/// The question with one address for an answer, or none to questions of another kind. (RFC 1035, 4.1)
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 12;
    let name_bytes = question.get(HEADER_BYTES..)?.iter().position(|byte| *byte == 0)?;
    let end = HEADER_BYTES + name_bytes + 5;
    let is_address = question.get(end - 4..end)? == [0, 1, 0, 1];
    let mut answer = question.get(..end)?.to_vec();
    answer[2..HEADER_BYTES].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    if is_address {
        answer.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&PUBLIC[0].parse::<Ipv4Addr>().ok()?.octets());
    }
    Some(answer)
}
