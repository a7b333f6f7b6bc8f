//! A server in miniature: opens a sandbox over a directory, starts a long-lived command in it,
//! says so, and waits to be killed.

use std::path::PathBuf;

use freehold_sandbox::{
    Isolation, Launcher, Limits, NamespaceConfig, NamespaceProvider, NetworkPolicy, Provider,
    SandboxError, SandboxSpec, ToolRequest,
};
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio_util::sync::CancellationToken;

/// Arguments: the state directory, the control groups' instance, the name of the command.
pub fn run(dir: PathBuf, instance: String, marker: &str) -> Result<(), SandboxError> {
    let launcher = Launcher {
        program: "/proc/self/exe".into(),
        args: Vec::new(),
    };
    let script = format!(
        "trap '' TERM HUP INT; (setsid bash -c 'exec -a {marker} sleep 1000' </dev/null >/dev/null 2>&1 &)
         echo kept > kept; exec -a {marker} sleep 1000"
    );
    let command = json!({ "argv": ["/bin/bash", "-c", script] });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| SandboxError::Host {
        what: "starting",
        source,
    })?;
    runtime.block_on(async {
        let provider =
            NamespaceProvider::new(NamespaceConfig::new(launcher, instance, dir.clone()));
        let spec = SandboxSpec {
            id: "killed".to_owned(),
            dir,
            limits: Limits::default(),
            network: NetworkPolicy::Public.into(),
            min_isolation: Isolation::Namespaces,
            shares: Vec::new(),
            layers: Vec::new(),
            env: Vec::new(),
        };
        let sandbox = provider.create(&spec).await?;
        let request = ToolRequest {
            id: "toolu_host".to_owned(),
            name: "exec".to_owned(),
            input: to_raw_value(&command).unwrap_or_default(),
        };
        println!("open");
        sandbox
            .call(request, &CancellationToken::new())
            .await
            .map(|_| ())
    })
}
