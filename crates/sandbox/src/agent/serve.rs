//! The agent's main loop: the first thread reads the control stream and never blocks on work; each
//! ask has a thread of its own, one that is done with another or one that a second thread starts. What
//! tools start cannot signal any of them where [`super::Fence`] holds. Elsewhere Landlock shuts the first thread off from it, where the kernel
//! can; by the id of another thread it can still kill or stop the whole process, and the host finds
//! the sandbox lost, or a call at its limit.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::value::RawValue;

use super::exec::Programs;
use super::files::Files;
use super::spares::Spares;
use super::still::Still;
use super::transfer::Transfers;
use super::{AgentContext, Cancel, Handler, Reply, listing};
use crate::launch::{Inside, protect_agent};
use crate::protocol::{
    Answer, Ask, FromAgent, Handshake, MAX_IN_FLIGHT, MAX_INPUT, MAX_OUTPUT, Problem, ToAgent,
    encode, read_frame, write_frame,
};

/// Content blocks of one reply (`freehold_base::limits::MAX_CONTENT_BLOCKS`).
const MAX_BLOCKS: usize = freehold_base::limits::MAX_CONTENT_BLOCKS;
/// Stack of a thread that serves an ask, bytes.
const STACK: usize = 2 * 1024 * 1024;

pub(super) struct Job {
    id: u64,
    ask: Ask,
    body: Vec<u8>,
    cancel: Cancel,
}

/// What all threads share.
struct Shared {
    control: Mutex<File>,
    running: Mutex<HashMap<u64, Cancel>>,
    files: Files,
    programs: Programs,
    transfers: Transfers,
    still: Mutex<Option<Still>>,
    spares: Spares<Job>,
    isolated: bool,
}

/// Serves until the host goes away; the exit code.
pub(super) fn run(
    inside: Inside,
    make: impl FnOnce(AgentContext) -> Box<dyn Handler> + Send + 'static,
) -> i32 {
    let context = inside.context;
    let shared = Arc::new(Shared {
        control: Mutex::new(inside.control.writer),
        running: Mutex::default(),
        files: Files::new(inside.roots),
        programs: Programs::new(&context),
        transfers: Transfers::new(inside.kept),
        still: Mutex::default(),
        spares: Spares::default(),
        isolated: context.isolated,
    });
    let (jobs, queue) = sync_channel::<Job>(MAX_IN_FLIGHT);
    let (ready, wait_ready) = sync_channel(1);
    let mut handshake = inside.handshake;
    handshake.agent_fenced = context.fence.holds();
    handshake.agent_protected = handshake.agent_fenced;
    let fenced = handshake.agent_fenced;
    let mut announce = Some(inside.announce);
    let mut announce = |handshake: &Handshake| {
        let announced = announce
            .take()
            .map(|a| a.started(&shared.control, handshake));
        matches!(announced, Some(Ok(())))
    };
    // A fence needs nothing more, and the host may send what there is to do.
    if fenced && !announce(&handshake) {
        return 1;
    }
    let worker = shared.clone();
    let started = std::thread::Builder::new()
        .name("dispatch".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let protected =
                !fenced && context.isolated && protect_agent(worker.transfers.folders());
            let handler: Arc<dyn Handler> = Arc::from(make(context));
            // The reader may wait for this; if it is gone there is no one to serve.
            let _ = ready.send(protected);
            dispatch(&worker, &queue, &handler);
        });
    let Ok(dispatcher) = started else {
        return 1;
    };
    if !fenced {
        let Ok(protected) = wait_ready.recv() else {
            return 1;
        };
        handshake.agent_protected = protected;
        if !announce(&handshake) {
            return 1;
        }
    }
    let code = read(&shared, inside.control.reader, &jobs);
    // The host is gone: let the handler stop what it started, then end.
    drop(jobs);
    for cancel in shared.running().values() {
        cancel.cancel();
    }
    let _ = dispatcher.join();
    code
}

/// Reads asks until the socket ends.
fn read(shared: &Arc<Shared>, from: File, jobs: &SyncSender<Job>) -> i32 {
    let mut from = BufReader::new(from);
    loop {
        let (ToAgent { id, ask }, body) = match read_frame::<ToAgent>(&mut from, MAX_INPUT) {
            Ok(Some(frame)) => frame,
            Ok(None) => return 0,
            Err(_) => return 1,
        };
        // What concerns a call or a program that runs takes no thread of its own: tools may have left
        // none, and what they started must be heard and ended all the same.
        match ask {
            Ask::Cancel { call } => {
                shared.close(call);
                let cancel = shared.running().get(&call).cloned();
                if let Some(cancel) = cancel {
                    let _ = catch_unwind(AssertUnwindSafe(|| cancel.cancel()));
                }
                continue;
            }
            Ask::Next { handle } => {
                if !shared.programs.ask(handle, id) {
                    shared.fail(id, Problem::Protocol);
                }
                continue;
            }
            Ask::Kill { handle } => {
                shared.programs.kill(handle);
                shared.answer(id, Answer::Done, &[]);
                continue;
            }
            // From now on it may be asked about.
            Ask::Exec { .. } if !shared.programs.expect(id) => {
                shared.fail(id, Problem::Busy);
                continue;
            }
            _ => {}
        }
        let cancel = Cancel::new();
        shared.running().insert(id, cancel.clone());
        let job = Job {
            id,
            ask,
            body,
            cancel,
        };
        let Err(job) = shared.spares.give(job) else {
            continue;
        };
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => shared.busy(job.id),
            // There is no handler.
            Err(TrySendError::Disconnected(_)) => return 1,
        }
    }
}

/// Starts threads for asks that find none, and one for the first.
fn dispatch(shared: &Arc<Shared>, queue: &Receiver<Job>, handler: &Arc<dyn Handler>) {
    // Where it fails, the first ask finds out.
    let _ = start_thread(shared, handler, None);
    for job in queue {
        let id = job.id;
        if start_thread(shared, handler, Some(job)).is_err() {
            // Tools have used up the processes allowed to the sandbox.
            shared.busy(id);
        }
    }
}

/// A thread that serves the ask, and as a spare those that it is given after it.
fn start_thread(
    shared: &Arc<Shared>,
    handler: &Arc<dyn Handler>,
    first: Option<Job>,
) -> std::io::Result<()> {
    // A thread that waits does not keep the handler, which ends what it started when it is dropped.
    let (shared, handler) = (shared.clone(), Arc::downgrade(handler));
    let serve_all = move || {
        let mut next = first.or_else(|| shared.spares.wait());
        while let Some(job) = next {
            let id = job.id;
            let serve = || serve_one(&shared, &handler, job);
            if catch_unwind(AssertUnwindSafe(serve)).is_err() {
                shared.close(id);
                // Unless it has been answered.
                if shared.running().contains_key(&id) {
                    shared.fail(id, Problem::Protocol);
                }
            }
            next = shared.spares.wait();
        }
    };
    let thread = std::thread::Builder::new()
        .name("ask".to_owned())
        .stack_size(STACK)
        .spawn(serve_all);
    thread.map(drop)
}

fn serve_one(shared: &Shared, handler: &Weak<dyn Handler>, job: Job) {
    let answer = |id, (answer, body): (Answer, Vec<u8>)| shared.answer(id, answer, &body);
    if let Ask::Exec { command } = job.ask {
        let command = command as usize;
        shared.programs.run(job.id, command, &job.body, answer);
    } else if let Some(handler) = handler.upgrade() {
        answer(job.id, serve(shared, &*handler, job));
    }
    // Without a handler the host is gone.
}

fn serve(shared: &Shared, handler: &dyn Handler, job: Job) -> (Answer, Vec<u8>) {
    let files = &shared.files;
    let transfers = &shared.transfers;
    let done = |r: Result<(), _>| r.map(|()| (Answer::Done, Vec::new()));
    let result = match job.ask {
        Ask::Call { name } => return call(handler, &name, job.body, &job.cancel),
        Ask::List { dir } => listing::list(files.roots(), &dir).map(|(entries, truncated)| {
            let body = serde_json::to_vec(&entries).unwrap_or_default();
            (Answer::Listing { truncated }, body)
        }),
        Ask::Open { path, max } => files
            .open(job.id, &path, max)
            .map(|size| (Answer::Opened { size }, Vec::new())),
        Ask::Pull { handle } => files
            .pull(handle)
            .map(|(chunk, last)| (Answer::Chunk { last }, chunk)),
        Ask::Create { path } => done(files.create(job.id, &path)),
        Ask::Push { handle } => done(files.push(handle, &job.body)),
        Ask::Commit { handle } => done(files.commit(handle)),
        Ask::Close { handle } => {
            files.close(handle);
            shared.close(handle);
            transfers.close(handle);
            done(Ok(()))
        }
        Ask::Delete { path } => done(files.delete(&path)),
        Ask::Pack { bytes, entries } => return transfers.pack(job.id, bytes, entries),
        Ask::PackNext { handle } => return transfers.next(handle),
        Ask::Unpack { bytes, entries } => return transfers.unpack(job.id, bytes, entries),
        Ask::UnpackPush { handle } => return transfers.push(handle, job.body),
        // Outside a sandbox "all others" would be the user's whole machine.
        Ask::Still { .. } if !shared.isolated => return failed(Problem::Busy),
        Ask::Still { on } => {
            let mut still = shared.still.lock().unwrap_or_else(PoisonError::into_inner);
            match on {
                true if still.is_none() => *still = Some(Still::new()),
                true => {}
                false => *still = None,
            }
            done(Ok(()))
        }
        Ask::Usage => files
            .usage()
            .map(|(bytes, inodes)| (Answer::Usage { bytes, inodes }, Vec::new())),
        // Taken care of before.
        Ask::Cancel { .. } | Ask::Exec { .. } | Ask::Next { .. } | Ask::Kill { .. } => {
            return failed(Problem::Protocol);
        }
    };
    result.unwrap_or_else(|problem| failed(Problem::File(problem)))
}

pub(super) fn failed(problem: Problem) -> (Answer, Vec<u8>) {
    (Answer::Failed { problem }, Vec::new())
}

fn call(handler: &dyn Handler, name: &str, input: Vec<u8>, cancel: &Cancel) -> (Answer, Vec<u8>) {
    let input = String::from_utf8(input)
        .ok()
        .and_then(|s| RawValue::from_string(s).ok());
    let Some(input) = input else {
        return failed(Problem::Protocol);
    };
    let run = || handler.call(name, &input, cancel);
    let reply = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Reply::error(format!("{name}: the tool failed unexpectedly")));
    let reply = if reply.content.len() > MAX_BLOCKS {
        Reply::error(format!("{name}: the output has too many parts"))
    } else {
        reply
    };
    match serde_json::to_vec(&reply.content) {
        Ok(body) if body.len() <= MAX_OUTPUT => {
            let is_error = reply.is_error;
            (Answer::Reply { is_error }, body)
        }
        _ => {
            let text = format!("{name}: the output is too large");
            let body = serde_json::to_vec(&Reply::error(text).content).unwrap_or_default();
            (Answer::Reply { is_error: true }, body)
        }
    }
}

impl Shared {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Cancel>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers an ask for which there is no thread.
    fn busy(&self, id: u64) {
        self.fail(id, Problem::Busy);
        self.close(id);
    }

    /// Kills and forgets a program.
    fn close(&self, handle: u64) {
        for asked in self.programs.close(handle) {
            self.fail(asked, Problem::Protocol);
        }
    }

    fn fail(&self, id: u64, problem: Problem) {
        let (answer, body) = failed(problem);
        self.answer(id, answer, &body);
    }

    /// Sends an answer. If the host is gone the reader finds out and ends everything.
    fn answer(&self, id: u64, answer: Answer, body: &[u8]) {
        self.running().remove(&id);
        let header = FromAgent { id, answer };
        let Ok(frame) = encode(&header, body.len()) else {
            return;
        };
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write_frame(&mut *control, frame, body);
    }
}
