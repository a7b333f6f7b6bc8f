//! Garbage on both halves of the tunnel and at its door. A failure names the seed: `Dice(seed)` makes the
//! same garbage again.

mod hostile;
mod world;

use freehold_base::IdSource;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use hostile::*;
use world::{World, options};

/// Random, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let mut seed = [0; 8];
        IdSource::system().fill(&mut seed);
        Self(u64::from_le_bytes(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    /// Frames that are nearly right, wrong in one point, or noise.
    fn garbage(&mut self, good: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..=self.below(12) {
            let kind = match self.below(8) {
                0 => self.byte(),
                _ => u8::try_from(self.below(10)).unwrap(),
            };
            let flags = match self.below(3) {
                0 => self.byte(),
                1 => END_HEADERS,
                _ => 0,
            };
            let stream = match self.below(6) {
                0 => u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
                other => [0, 1, 1, 3, 5][other - 1],
            };
            let payload = match self.below(6) {
                0 => good.to_vec(),
                1 => {
                    let mut bent = good.to_vec();
                    let at = self.below(bent.len());
                    bent[at] = self.byte();
                    bent
                }
                2 => self.bytes(20_000),
                3 => vec![0; [0, 4, 5, 6, 8][self.below(5)]],
                _ => self.bytes(40),
            };
            let mut said = frame(kind, flags, stream, &payload);
            if self.below(12) == 0 {
                let at = self.below(said.len());
                said[at] = self.byte();
            }
            all.extend(said);
        }
        if self.below(8) == 0 {
            all.extend(self.bytes(200));
        }
        all
    }
}

#[tokio::test]
async fn garbage_from_gateways_harms_nobody_else() {
    let world = impatient().await;
    let held = busy(&world).await;
    let before = resident();
    let mut dice = Dice::new();
    for _ in 0..200 {
        let seed = dice.0;
        let mut peer = Peer::enter(&world).await;
        // The stream that is asked for meanwhile is asked of it, and served by another.
        let hostile = async {
            if dice.below(2) == 0 {
                soon(&format!("a stream; seed {seed}"), peer.stream()).await;
            }
            let bytes = dice.garbage(OK);
            peer.say(&bytes).await;
            let _ = peer.0.shutdown().await;
            peer.ends(&format!("the edge to let go; seed {seed}")).await;
        };
        let (answer, ()) = tokio::join!(world.get("/"), hostile);
        let answer = answer.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(answer.contains("200"), "seed {seed}: {answer}");
        let left = || world.edge.connections(&world.tunnel).len() == held.len();
        until("only honest connections to be left", left).await;
    }
    check_kept(before, format!("last seed {}", dice.0));
}

#[tokio::test]
async fn garbage_at_the_door_opens_nothing() {
    let world = World::start().await;
    let mut dice = Dice::new();
    for _ in 0..200 {
        let seed = dice.0;
        // A good head without a good token, bent here and there.
        let mut head = format!(
            "POST /v1/tunnel-connect HTTP/1.1\r\nHost: edge\r\nConnection: upgrade\r\n\
             Upgrade: mtun/1\r\nAuthorization: Bearer {seed}\r\nGateway-Id: gw\r\n\r\n"
        )
        .into_bytes();
        for _ in 0..dice.below(4) {
            if head.is_empty() {
                break;
            }
            let at = dice.below(head.len());
            match dice.below(3) {
                0 => head[at] = dice.byte(),
                1 => drop(head.remove(at)),
                _ => head.truncate(at + 2),
            }
        }
        head.extend(dice.bytes(60));
        let mut stream = world.knock().await;
        let _ = stream.write_all(&head).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let what = format!("an answer; seed {seed}");
        let _ = soon(&what, stream.read_to_end(&mut answer)).await;
        let status = answer.get(9..12).map(String::from_utf8_lossy);
        assert!(
            matches!(status.as_deref(), None | Some("400" | "401" | "429")),
            "seed {seed}: {status:?}"
        );
    }
    assert_eq!(world.edge.connections(&world.tunnel).len(), 2);
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn garbage_from_the_edge_does_not_end_a_gateway() {
    let edge = FalseEdge::start().await;
    let world = World::start_with(options(), |direct| edge.way(direct)).await;
    let before = resident();
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let block = connect_block("app.abc.tunnel.test:443");
    let mut dice = Dice::new();
    for _ in 0..200 {
        let seed = dice.0;
        let mut bytes = hello.clone();
        bytes.extend(dice.garbage(&block));
        let what = format!("the gateway to let go; seed {seed}");
        edge.attack(&world, &what, Attack::Once(bytes)).await;
    }
    check_kept(before, format!("last seed {}", dice.0));
    world.connected().await;
    assert!(world.get("/").await.unwrap().contains("200"));
}
