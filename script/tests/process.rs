//! Real script processes: this program starts itself as them. What a sealed process may still do, and how a script process
//! answers, lives and ends.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod plain;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_script::message::{
    BodyRef, Changes, Condemned, Effect, Event, EventId, Inbound, Limits, Load, Module, Object, ObjectClass,
    ObjectId, Opened, Request, Target, encode,
};
use berth_script::process::{Invitation, confine_memory, invite, keep_from_files, run, seal};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("script") => run(plain::load).expect("a script process"),
        Some("objects") => run(berth_script::web::load).expect("a script process"),
        Some("attempts") => attempts(),
        Some("abort") => {
            seal().unwrap();
            std::process::abort();
        }
        _ => tests(),
    }
}

fn tests() {
    let tests: [(&str, fn()); 9] = [
        ("a sealed process can do nothing to the system", a_sealed_process_can_do_nothing_to_the_system),
        ("a sealed process can end itself", a_sealed_process_can_end_itself),
        ("a script process answers", a_script_process_answers),
        ("it has nothing of its parent's", it_has_nothing_of_its_parent_s),
        ("a lost isolate is replaced", a_lost_isolate_is_replaced),
        (
            "a long calculation shows that it lives and holds nothing up",
            a_long_calculation_shows_that_it_lives,
        ),
        ("garbage on its socket ends it", garbage_ends_it),
        ("it ends with its edge", it_ends_with_its_edge),
        ("an object keeps rows in a sealed process", an_object_keeps_rows),
    ];
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, test) in tests {
        if only.iter().all(|part| name.contains(part.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn itself(mode: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(mode).env_clear();
    command
}

/// Tries what a script must not do, once all is given up, and says what came of each.
fn attempts() {
    let landlock = keep_from_files().unwrap().landlock;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (here, is_here) = std::sync::mpsc::channel();
    let helper = std::thread::spawn(move || {
        here.send(()).unwrap();
        let _ = wait.recv();
        // The filter is for threads that were there before, too.
        // SAFETY: a call with constant arguments.
        let opened = unsafe { libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY) };
        opened == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
    });
    is_here.recv().unwrap();
    confine_memory(1, 64 << 20).unwrap();
    let parent = std::os::unix::process::parent_id();
    seal().unwrap();
    drop(go);
    let mut results = vec![("landlock", landlock), ("other thread", helper.join().unwrap())];
    let path = c"/etc/passwd".as_ptr();
    let page = 4096_usize;
    macro_rules! attempt {
        ($($name:literal: $call:expr $(, $argument:expr)*;)*) => {$(
            // SAFETY: calls that are refused; were one not, its arguments could harm only this process, which is for that.
            let result = unsafe { libc::syscall($call $(, $argument)*) };
            let refused = result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
            results.push(($name, refused));
        )*};
    }
    attempt! {
        "openat": libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY, 0;
        "openat2": libc::SYS_openat2, libc::AT_FDCWD, path, 0, 0;
        "memfd_create": libc::SYS_memfd_create, path, 0;
        "socket": libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0;
        "unix socket": libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0;
        "socketpair": libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, 0;
        "connect": libc::SYS_connect, 0, 0, 0;
        "bind": libc::SYS_bind, 0, 0, 0;
        "sendmsg": libc::SYS_sendmsg, 1, 0, 0;
        "recvmsg": libc::SYS_recvmsg, 0, 0, 0;
        "clone": libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0;
        "clone of a thread": libc::SYS_clone, libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND, 0, 0, 0, 0;
        "clone3": libc::SYS_clone3, 0, 0;
        "execve": libc::SYS_execve, c"/bin/true".as_ptr(), 0, 0;
        "execveat": libc::SYS_execveat, libc::AT_FDCWD, c"/bin/true".as_ptr(), 0, 0, 0;
        "ptrace": libc::SYS_ptrace, libc::PTRACE_ATTACH, parent, 0, 0;
        "process_vm_readv": libc::SYS_process_vm_readv, parent, 0, 0, 0, 0, 0;
        "process_vm_writev": libc::SYS_process_vm_writev, parent, 0, 0, 0, 0, 0;
        "pidfd_open": libc::SYS_pidfd_open, parent, 0;
        "kill of its parent": libc::SYS_kill, parent, 0;
        "kill of all": libc::SYS_kill, -1, 0;
        "tgkill of its parent": libc::SYS_tgkill, parent, parent, 0;
        "tkill": libc::SYS_tkill, parent, 0;
        "io_uring_setup": libc::SYS_io_uring_setup, 8, 0;
        "io_setup": libc::SYS_io_setup, 8, 0;
        "bpf": libc::SYS_bpf, 0, 0, 0;
        "perf_event_open": libc::SYS_perf_event_open, 0, 0, 0, 0, 0;
        "userfaultfd": libc::SYS_userfaultfd, 0;
        "keyctl": libc::SYS_keyctl, 0, 0, 0;
        "unshare": libc::SYS_unshare, libc::CLONE_NEWUSER;
        "setns": libc::SYS_setns, 0, 0;
        "mount": libc::SYS_mount, 0, 0, 0, 0, 0;
        "chroot": libc::SYS_chroot, path;
        "unlinkat": libc::SYS_unlinkat, libc::AT_FDCWD, path, 0;
        "prctl": libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0;
        "seccomp": libc::SYS_seccomp, 0, 0, 0;
        "prlimit64": libc::SYS_prlimit64, 0, libc::RLIMIT_AS, 0, 0;
        "setuid": libc::SYS_setuid, 0;
        "dup": libc::SYS_dup, 1;
        "fcntl": libc::SYS_fcntl, 1, libc::F_DUPFD, 0;
        "ioctl": libc::SYS_ioctl, 1, 0, 0;
        "pipe2": libc::SYS_pipe2, 0, 0;
        "eventfd2": libc::SYS_eventfd2, 0, 0;
        "epoll_create1": libc::SYS_epoll_create1, 0;
        "timer_create": libc::SYS_timer_create, 0, 0, 0;
        "shmget": libc::SYS_shmget, 0, page, 0;
        "memory that is run": libc::SYS_mmap, 0, page, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0;
        "mprotect to run": libc::SYS_mprotect, 0, page, libc::PROT_EXEC;
        "setpriority": libc::SYS_setpriority, 0, 0, 0;
        "sched_setaffinity": libc::SYS_sched_setaffinity, 0, 0, 0;
        "uname": libc::SYS_uname, 0;
        "getppid": libc::SYS_getppid;
    }
    // What a calculation needs goes on.
    let memory: Vec<u8> = vec![1; 8 << 20];
    results.push(("memory", memory.iter().map(|byte| usize::from(*byte)).sum::<usize>() == 8 << 20));
    results.push(("time", Instant::now().elapsed() < Duration::from_secs(1)));
    let most: Result<Vec<u8>, _> = {
        let mut much = Vec::new();
        much.try_reserve_exact(8 << 30).map(|()| much)
    };
    results.push(("much memory is refused", most.is_err()));
    let text: String = results.iter().map(|(name, as_meant)| format!("{as_meant} {name}\n")).collect();
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}

fn a_sealed_process_can_do_nothing_to_the_system() {
    let output = itself("attempts").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // SAFETY: asks for a version; there is no memory involved.
    let landlock_is_here = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) } > 0;
    let wrong: Vec<&str> = text.lines().filter(|line| line.starts_with("false")).collect();
    let known: &[&str] = if landlock_is_here { &[] } else { &["false landlock"] };
    assert_eq!(wrong, known, "{text}");
    assert!(text.lines().count() > 50, "{text}");
}

fn a_sealed_process_can_end_itself() {
    let status = itself("abort").stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
}

/// A script process and the sockets of its threads.
struct Script {
    child: Child,
    control: UnixStream,
    lanes: Vec<(UnixStream, Inbound<Effect>)>,
}

impl Script {
    fn start(lanes: usize) -> Self {
        Self::start_as("script", lanes)
    }

    fn start_as(mode: &str, lanes: usize) -> Self {
        let (control, its_own) = UnixStream::pair().unwrap();
        let command = &mut itself(mode);
        let child = command.stdin(OwnedFd::from(its_own)).stdout(Stdio::null()).spawn().unwrap();
        let (near, far): (Vec<_>, Vec<_>) = (0..lanes).map(|_| UnixStream::pair().unwrap()).unzip();
        invite(&control, Invitation { memory_bytes: 64 << 20 }, &far).unwrap();
        let lanes = near.into_iter().map(|lane| (lane, Inbound::default())).collect();
        Self { child, control, lanes }
    }

    fn send(&mut self, lane: usize, event: &Event) {
        let mut bytes = Vec::new();
        encode(event, &mut bytes).unwrap();
        self.lanes[lane].0.write_all(&bytes).unwrap();
    }

    fn next(&mut self, lane: usize) -> Effect {
        let (socket, inbound) = &mut self.lanes[lane];
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 4096];
        loop {
            match inbound.next_message().unwrap() {
                // When that is told depends on how fast the machine is.
                Some(Effect::Used(_)) => continue,
                Some(effect) => return effect,
                None => {}
            }
            let count = socket.read(&mut buffer).unwrap_or(0);
            if count == 0 {
                let mut last_words = String::new();
                self.control.read_to_string(&mut last_words).unwrap();
                panic!("the process has ended: {:?} {last_words}", self.child.wait());
            }
            inbound.extend(&buffer[..count]);
        }
    }

    fn load(&mut self, lane: usize, source: &str) {
        self.load_with(lane, source, Vec::new());
    }

    fn load_with(&mut self, lane: usize, source: &str, objects: Vec<ObjectClass>) {
        let load = Load {
            modules: vec![Module { name: "index.js".to_owned(), source: source.to_owned() }],
            resolutions: Vec::new(),
            entry: "index.js".to_owned(),
            env: Vec::new(),
            compatibility_date: "2026-01-31".to_owned(),
            flags: Vec::new(),
            objects,
            limits: Limits { memory_bytes: 32 << 20, ..Limits::default() },
        };
        self.send(lane, &Event::Load(Box::new(load)));
        assert!(matches!(self.next(lane), Effect::Loaded(_)));
    }

    fn fetch(&mut self, lane: usize, event: u64, url: &str) {
        let request = Request {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: BodyRef::None,
        };
        self.send(
            lane,
            &Event::Fetch { event: EventId(event), target: Target::Worker, request: Box::new(request) },
        );
    }

    fn answer(&mut self, lane: usize) -> String {
        match self.next(lane) {
            Effect::Responded(_, response) => response.status_text,
            other => panic!("{other:?}"),
        }
    }

    fn ended(mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ECHO: &str = "let count = 0; export default { fetch(request) {
    if (request.url === '/loop') for (;;) {}
    if (request.url === '/busy') { const until = Date.now() + 2500; while (Date.now() < until) {} }
    if (request.url === '/much') { const all = []; for (;;) all.push(new Uint8Array(1e6)); }
    count += 1; return { statusText: request.url + ' ' + count }; } }";

fn a_script_process_answers() {
    let mut script = Script::start(2);
    for lane in 0..2 {
        script.load(lane, ECHO);
    }
    // Each thread has an isolate of its own.
    for lane in [0, 1, 0] {
        script.fetch(lane, 1, "/a");
        let count = script.answer(lane);
        assert!(count.starts_with("/a "), "{count}");
        assert!(matches!(script.next(lane), Effect::Done { event: EventId(1), .. }));
    }
    script.fetch(0, 2, "/b");
    assert_eq!(script.answer(0), "/b 3");
    script.send(1, &Event::Ping(7));
    assert_eq!(script.next(1), Effect::Pong(7));
}

fn it_has_nothing_of_its_parent_s() {
    let mut script = Script::start(1);
    script.load(0, ECHO);
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", script.child.id())).unwrap();
    assert_eq!(proc("environ"), "");
    assert_eq!(proc("comm").trim(), "berth-script");
    let status = proc("status");
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:"), field("Threads:")),
        ("1".into(), "2".into(), "2".into())
    );
    let limits = proc("limits");
    assert!(limits.lines().any(|line| line.starts_with("Max core file size        0 ")), "{limits}");
    let open = std::fs::read_dir(format!("/proc/{}/fd", script.child.id())).unwrap();
    let open: Vec<String> = open
        .map(|file| std::fs::read_link(file.unwrap().path()).unwrap().to_string_lossy().into_owned())
        .collect();
    // The standard input twice, the thread's socket, and the standard output and error.
    assert_eq!(open.iter().filter(|name| name.starts_with("socket:")).count(), 3, "{open:?}");
    assert_eq!(open.len(), 5, "{open:?}");
}

fn a_lost_isolate_is_replaced() {
    let mut script = Script::start(1);
    script.load(0, ECHO);
    for round in 1..30 {
        script.fetch(0, round, "/much");
        assert_eq!(script.next(0), Effect::Condemned(Condemned::Memory));
        // What comes before it is loaded anew means nothing.
        script.fetch(0, round, "/a");
        script.load(0, ECHO);
    }
    script.fetch(0, 99, "/b");
    assert_eq!(script.answer(0), "/b 1");
}

fn a_long_calculation_shows_that_it_lives() {
    let mut script = Script::start(1);
    script.load(0, ECHO);
    // Both in one write, so that both are there when the first is begun.
    let mut bytes = Vec::new();
    for (event, url) in [(1, "/quick"), (2, "/busy")] {
        let request =
            Request { method: "GET".into(), url: url.into(), headers: Vec::new(), body: BodyRef::None };
        let fetch =
            Event::Fetch { event: EventId(event), target: Target::Worker, request: Box::new(request) };
        encode(&fetch, &mut bytes).unwrap();
    }
    let begun = Instant::now();
    script.lanes[0].0.write_all(&bytes).unwrap();
    assert_eq!(script.answer(0), "/quick 1");
    assert!(begun.elapsed() < Duration::from_secs(2), "the first waits for the second");
    assert!(matches!(script.next(0), Effect::Done { .. }));
    assert_eq!(script.next(0), Effect::Beat);
    assert_eq!(script.next(0), Effect::Beat);
    assert_eq!(script.answer(0), "/busy 2");
}

fn garbage_ends_it() {
    let mut script = Script::start(1);
    script.load(0, ECHO);
    script.lanes[0].0.write_all(&[0xff; 64]).unwrap();
    assert_eq!(script.ended().signal(), Some(libc::SIGABRT));
}

fn it_ends_with_its_edge() {
    let mut script = Script::start(2);
    script.load(0, ECHO);
    script.fetch(0, 1, "/loop");
    // A thread that calculates hears nothing; the other ends the process.
    script.lanes.remove(1);
    assert_eq!(script.ended().code(), Some(0));
    let mut uninvited = Script::start(1);
    uninvited.lanes.clear();
    uninvited.control.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(uninvited.ended().code(), Some(0));
}

/// SQLite makes no call that the filter refuses, or goes on without.
fn an_object_keeps_rows() {
    let mut script = Script::start_as("objects", 1);
    let source = "export class Room { constructor(ctx) { this.sql = ctx.storage.sql; } fetch() {
        this.sql.exec('CREATE TABLE t (a, b)');
        for (let i = 0; i < 5000; i++) this.sql.exec('INSERT INTO t VALUES (randomblob(16), ?)', 'x'.repeat(100));
        const rows = this.sql.exec('SELECT DISTINCT hex(a) AS a, b FROM t ORDER BY b, a DESC').toArray().length;
        return new Response(null, { statusText: `${rows} ${this.sql.exec('SELECT unixepoch() > 0 AS now').one().now}` }); } }
        export default {}";
    script.load_with(
        0,
        source,
        vec![ObjectClass { name: "Room".to_owned(), key: [1; 32], container: false }],
    );
    let object = Object { class: "Room".to_owned(), id: ObjectId([7; 32]), name: None };
    let request = Request {
        method: "GET".to_owned(),
        url: "http://a.example/".to_owned(),
        headers: Vec::new(),
        body: BodyRef::None,
    };
    let target = Target::Object(Box::new(object.clone()));
    script.send(0, &Event::Fetch { event: EventId(1), target, request: Box::new(request) });
    assert_eq!(script.next(0), Effect::Open(Box::new(object.clone())));
    let rest = serde_bytes::ByteBuf::from(Changes::default().to_bytes().unwrap());
    script.send(0, &Event::Opened(object.id, Opened::Whole { life: EventId(2), rest, running: false }));
    let mut bytes = Vec::new();
    loop {
        match script.next(0) {
            Effect::Commit { sequence: 1, piece, last, .. } => {
                bytes.extend_from_slice(&piece);
                if last {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let changes = Changes::from_bytes(&bytes).unwrap();
    assert_eq!(changes.page_count.map(|count| count as usize), Some(changes.pages.len()));
    assert!(changes.pages.len() > 100);
    script.send(0, &Event::Committed(object.id, 1));
    assert_eq!(script.answer(0), "5000 1");
}
