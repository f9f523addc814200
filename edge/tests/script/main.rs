//! Scripts from the edge's side, with the real processes, and with processes that lie: whatever one app's script does, its own
//! calls fail with a text that says why, and another app's go on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../script/tests/plain/mod.rs"]
mod bare;
mod bench;
mod hostile;
mod liar;
mod lies;
mod plain;
#[path = "../../src/script/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod script;
mod sockets;
mod stage;

use futures_util::future::LocalBoxFuture;

type Test = (&'static str, fn() -> LocalBoxFuture<'static, ()>);

macro_rules! tests {
    ($($module:ident::$name:ident,)*) => {
        [$((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name())),)*]
    };
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, lie] = &arguments[..]
        && mode == "liar"
    {
        return liar::run(lie);
    }
    if arguments.first().is_some_and(|mode| mode == "plain") {
        return berth_script::process::run(bare::load).expect("a script process");
    }
    let tests: [Test; _] = tests![
        plain::a_handler_answers,
        plain::bodies_flow_both_ways,
        plain::a_script_asks_the_world,
        plain::answers_that_nobody_reads_are_few,
        plain::what_nobody_reads_leaves_room_for_others,
        plain::a_client_that_goes_is_told,
        plain::a_cron_is_called_and_code_that_fails_says_so,
        plain::a_process_without_calls_ends_and_a_retired_one_too,
        sockets::sockets_keep_their_process_and_end_with_their_version,
        sockets::a_socket_that_nobody_takes_is_lost,
        hostile::what_a_script_uses_up_is_its_own,
        hostile::a_killed_process_is_started_again_but_not_for_ever,
        hostile::too_many_calls_are_refused,
        lies::a_process_that_lies_is_ended,
        lies::a_flood_takes_no_memory,
    ];
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if arguments.first().is_some_and(|mode| mode == "bench") {
        return runtime().block_on(bench::run());
    }
    let only: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for (name, test) in tests.iter().filter(|(name, _)| only.iter().all(|part| name.contains(part.as_str())))
    {
        runtime().block_on(test());
        println!("test {name} ... ok");
    }
}
