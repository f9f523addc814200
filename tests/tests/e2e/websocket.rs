//! WebSockets through the tunnel.

use std::time::Duration;

use anyhow::ensure;
use berth_api::containers::ContainerState;
use berth_tests::app::App;
use berth_tests::cluster::Setup;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use berth_tests::websocket::Socket;
use tokio_tungstenite::tungstenite::Message;

const MIB: usize = 1 << 20;
/// A code that applications may use.
const APP_CODE: u16 = 4001;
/// The close code "normal closure" (RFC 6455 §7.4.1).
const NORMAL_CODE: u16 = 1000;

#[test]
fn text_and_binary_messages_up_to_a_mebibyte_come_back() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let mut socket = Socket::open(&cluster.client(), "/container/echo/ws").await?;
        for length in [0, 1, 125, 126, 65_535, 65_536, MIB] {
            socket.echo(Message::text("ü".repeat(length / 2))).await?;
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            socket.echo(Message::binary(bytes)).await?;
        }
        Ok(())
    })
}

#[test]
fn close_codes_pass_in_both_directions() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        for code in [NORMAL_CODE, APP_CODE] {
            let mut ours = Socket::open(&client, "/container/close/ws").await?;
            ours.echo(Message::text("before")).await?;
            let answered = ours.close(code).await?;
            ensure!(answered == code, "closed with {code}, answered with {answered}");
            let mut theirs = Socket::open(&client, &format!("/container/close/ws?close={code}")).await?;
            let close_code = theirs.closed().await?;
            ensure!(close_code == code, "the app closed with {code}, the client was told {close_code}");
        }
        Ok(())
    })
}

#[test]
fn an_active_socket_keeps_its_instance_and_a_silent_one_does_not() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { sleep_after: "2s", ..App::default() }).await?;
        let admin = cluster.admin();
        let mut socket = Socket::open(&cluster.client(), "/container/open/ws").await?;
        for number in 0..12 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            socket.echo(Message::text(number.to_string())).await?;
        }
        let object = admin.object("open").await?;
        ensure!(
            object.instance.map(|id| id.to_string()).as_ref() == Some(&socket.instance),
            "it was replaced while in use: {object:?}"
        );
        wait::until("the instance of the silent socket to sleep", Duration::from_secs(10), async || {
            let object = admin.object("open").await?;
            ensure!(object.state == ContainerState::Stopped, "{object:?}");
            Ok(())
        })
        .await?;
        // The client sees it: a close frame, or the end of the connection.
        while let Ok(Some(message)) = socket.next().await {
            ensure!(message.is_close(), "the silent socket brought {message:?}");
        }
        Ok(())
    })
}
