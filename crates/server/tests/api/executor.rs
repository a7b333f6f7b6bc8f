//! A tool executor without a sandbox: `bash` answers with its command, and a test can hold calls
//! back or refuse cloud sessions.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use freehold_base::SessionId;
use freehold_runtime::{
    EnvironmentCredential, OutputFile, Place, ToolCall, ToolExecutor, ToolReply,
};
use freehold_wire::content::ContentBlock;
use freehold_wire::tool::BuiltinTool;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub struct Scripted {
    /// Calls wait until cancelled.
    pub hang: AtomicBool,
    /// Cloud sessions are refused.
    pub no_cloud: AtomicBool,
    /// Asking about tools panics.
    pub panics: AtomicBool,
    /// Times it did.
    pub panicked: AtomicUsize,
    /// Files of every session's outputs folder.
    pub outputs: Mutex<Vec<(String, Vec<u8>)>>,
    /// Sessions whose sandbox was removed.
    pub removed: Mutex<Vec<SessionId>>,
    /// Uploads as last seen by a call.
    pub uploads: Mutex<Vec<String>>,
    /// Names of the skills as last seen by a call.
    pub skills: Mutex<Vec<String>>,
    /// Memory stores as last seen by a call.
    pub memory: Mutex<Vec<String>>,
    /// Rounds of calls that ended.
    pub settled: AtomicUsize,
    /// Variables of vaults as last seen by a call.
    pub credentials: Mutex<Vec<EnvironmentCredential>>,
}

#[async_trait]
impl ToolExecutor for Scripted {
    fn unavailable(&self, tool: BuiltinTool) -> Option<String> {
        if self.panics.load(Ordering::SeqCst) {
            self.panicked.fetch_add(1, Ordering::SeqCst);
            panic!("a secret of the inside");
        }
        (tool == BuiltinTool::WebSearch).then(|| "no search provider is configured".into())
    }
    fn refuses_cloud(&self) -> Option<String> {
        let refuses = self.no_cloud.load(Ordering::SeqCst);
        refuses.then(|| "this host cannot isolate".into())
    }
    async fn prepare(&self, _: &Place) {}
    async fn call(&self, place: &Place, call: &ToolCall, cancel: CancellationToken) -> ToolReply {
        *self.uploads.lock().unwrap() =
            place.uploads.iter().map(|u| u.mount_path.clone()).collect();
        *self.skills.lock().unwrap() = place.skills.iter().map(|s| s.name.clone()).collect();
        let memory = place.memory.iter();
        *self.memory.lock().unwrap() = memory
            .map(|m| format!("{} {}", m.store, m.mount_path))
            .collect();
        (*self.credentials.lock().unwrap()).clone_from(&place.credentials);
        if self.hang.load(Ordering::SeqCst) {
            cancel.cancelled().await;
            return ToolReply::error("cancelled");
        }
        ToolReply {
            content: vec![ContentBlock::text(call.input.get())],
            is_error: false,
        }
    }
    async fn settle(&self, _: &Place) {
        self.settled.fetch_add(1, Ordering::SeqCst);
    }
    async fn write_file(&self, _: &Place, _: &str, _: Vec<u8>) -> Result<(), String> {
        Ok(())
    }
    async fn outputs(&self, _: &Place) -> Result<Vec<OutputFile>, String> {
        let files = self.outputs.lock().unwrap();
        Ok(files
            .iter()
            .map(|(path, bytes)| OutputFile {
                path: path.clone(),
                size: bytes.len() as u64,
                mtime_micros: 1,
            })
            .collect())
    }
    async fn read_output(
        &self,
        _: &Place,
        path: &str,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, String> {
        let files = self.outputs.lock().unwrap();
        let (_, bytes) = files
            .iter()
            .find(|(p, _)| p == path)
            .ok_or("no such output")?;
        Ok(Box::new(std::io::Cursor::new(bytes.clone())))
    }
    async fn remove(&self, session: &SessionId) {
        self.removed.lock().unwrap().push(session.clone());
    }
}
