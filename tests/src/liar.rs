//! An agent that lies: it has a valid certificate of the cluster's authority, and says to the edge whatever it likes, as much
//! and as fast as the edge takes it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use berth_certs::{Credentials, server_config};
use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId};
use berth_common::image::Digest;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::attach::AttachKey;
use berth_common::wire::call::{
    Answer, Call, Capacity, DiskCapacity, InstanceStatus, Phase, Refusal, RefusalCode, Welcome,
};
use berth_common::wire::images::{ImageState, ImageStatus};
use berth_common::wire::{STREAM_CALL, frame};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What it lies about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Reports without end, of 900 KB each, before it says that these were all.
    HugeReports,
    /// The same with short ones.
    EndlessReports,
    /// Instances without end that nobody has started, after a report that is well.
    Strangers,
    /// States of images without end that nobody wants there, and nothing else.
    Images,
    /// Answers of 900 KB to every order; each session reports other instances, so that there are some.
    HugeAnswers,
}

/// A lying agent. Dropped, it is gone.
#[derive(Debug)]
pub struct Liar {
    told: Arc<AtomicU64>,
    lies: watch::Sender<Lie>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    /// Listens with the certificate of this node.
    pub fn listen(authority: &Path, node: &str, at: SocketAddr, lie: Lie) -> Result<Self> {
        let file = |ending| authority.join(format!("agent-{node}.{ending}"));
        let credentials = Credentials::load(&authority.join("ca.pem"), &file("pem"), &file("key"))?;
        let tls = QuicServerConfig::try_from(server_config(&credentials))?;
        let endpoint = Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(tls)), at)?;
        let (told, lies) = (Arc::new(AtomicU64::new(0)), watch::Sender::new(lie));
        let (told_by, node, heard): (_, NodeId, _) = (Arc::clone(&told), node.parse()?, lies.subscribe());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                let (node, told, mut lies) = (node.clone(), Arc::clone(&told_by), heard.clone());
                connections.spawn(async move {
                    let lie = *lies.borrow_and_update();
                    if let Ok(connection) = incoming.await {
                        let speaker = Speaker { node, lie, told };
                        tokio::select! {
                            () = serve(speaker, &connection) => {}
                            _ = lies.changed() => connection.close(0_u32.into(), b"another lie"),
                        }
                    }
                });
            }
        });
        Ok(Self { told, lies, task })
    }

    /// Ends all connections, and tells this lie from then on.
    pub fn tell(&self, lie: Lie) {
        self.lies.send_replace(lie);
        self.told.store(0, Ordering::Relaxed);
    }

    /// How many lies of the last kind were told.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Speaker {
    node: NodeId,
    lie: Lie,
    told: Arc<AtomicU64>,
}

async fn serve(speaker: Speaker, connection: &Connection) {
    let mut streams = JoinSet::new();
    while let Ok((send, recv)) = connection.accept_bi().await {
        let speaker = speaker.clone();
        streams.spawn(async move { speaker.answer(send, recv).await });
    }
}

impl Speaker {
    async fn answer(&self, mut send: SendStream, mut recv: RecvStream) -> Result<()> {
        let mut kind = [0];
        recv.read_exact(&mut kind).await?;
        if kind != [STREAM_CALL] {
            return Ok(());
        }
        let answer = match frame::read::<Call>(&mut recv).await? {
            Some(Call::Hello(_)) => Answer::Welcome(self.welcome()),
            Some(Call::Watch) => return self.report(&mut send).await,
            Some(Call::Deliver(_)) => return self.tell_images(&mut send, &mut recv).await,
            Some(_) if self.lie == Lie::HugeAnswers => {
                self.told.fetch_add(1, Ordering::Relaxed);
                Answer::Refused(Refusal { code: RefusalCode::Other, message: huge() })
            }
            _ => Answer::Done,
        };
        frame::write(&mut send, &answer).await?;
        Ok(())
    }

    /// Draining, so that the edge places nothing there.
    fn welcome(&self) -> Welcome {
        Welcome {
            node: self.node.clone(),
            version: "0".repeat(10_000),
            capacity: Capacity { memory_bytes: u64::MAX, cpu_sixteenths: u32::MAX, instances: u32::MAX },
            disk: DiskCapacity::default(),
            draining: true,
            kept_for_ms: Some(u64::MAX),
            region: Some("r".repeat(10_000)),
            labels: Default::default(),
            attach: Some(AttachKey::random()),
            stamp: None,
            starts_at_once: None,
            architecture: None,
        }
    }

    async fn report(&self, send: &mut SendStream) -> Result<()> {
        match self.lie {
            Lie::HugeReports => loop {
                self.tell(send, Phase::Exited(Outcome { message: Some(huge()), ..Outcome::exited(1) }))
                    .await?;
            },
            Lie::EndlessReports => loop {
                self.tell(send, Phase::Ready).await?;
            },
            Lie::Strangers | Lie::HugeAnswers => {
                for _ in 0..1000 {
                    self.tell(send, Phase::Ready).await?;
                }
                frame::write(send, &Answer::Synced).await?;
                loop {
                    self.tell(send, Phase::Exited(Outcome::because(ExitReason::Exit, "so it says"))).await?;
                }
            }
            Lie::Images => {
                frame::write(send, &Answer::Synced).await?;
                std::future::pending().await
            }
        }
    }

    async fn tell(&self, send: &mut SendStream, phase: Phase) -> Result<()> {
        let object = ObjectId::from_bytes(*InstanceId::random().as_bytes());
        let status = InstanceStatus {
            instance: InstanceId::random(),
            object,
            generation: Generation(1),
            phase,
            frozen: false,
            metered: None,
        };
        // Before it is sent: the edge may not even let it be sent whole.
        self.told.fetch_add(1, Ordering::Relaxed);
        frame::write(send, &Answer::Update(status)).await?;
        Ok(())
    }

    async fn tell_images(&self, send: &mut SendStream, recv: &mut RecvStream) -> Result<()> {
        frame::write(send, &Answer::Done).await?;
        let lies = if self.lie == Lie::Images { u64::MAX } else { 0 };
        for number in 0..lies {
            let image = Digest::of(&number.to_be_bytes());
            let state = ImageState::Failed { message: "x".repeat(10_000) };
            frame::write(send, &ImageStatus { image, state }).await?;
            self.told.fetch_add(1, Ordering::Relaxed);
        }
        // Until the edge ends it.
        let _ = recv.read_to_end(usize::MAX).await;
        Ok(())
    }
}

fn huge() -> String {
    "x".repeat(900_000)
}
