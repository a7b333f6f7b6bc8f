//! What a gateway takes up only when it starts.

use super::Config;

impl Config {
    /// Settings of `new` that are other than these and need a restart, by their names in the file.
    pub fn need_restart(&self, new: &Self) -> Vec<&'static str> {
        let mut all = Vec::new();
        let mut compare = |name, same: bool| {
            if !same {
                all.push(name);
            }
        };
        compare("log_level", self.log_level == new.log_level);
        compare(
            "shutdown_timeout",
            self.shutdown_timeout == new.shutdown_timeout,
        );
        compare("tls.cert_file", self.certificate.0 == new.certificate.0);
        compare("tls.key_file", self.certificate.1 == new.certificate.1);
        compare("edge.address", self.edge == new.edge);
        compare("edge.ca_file", self.edge_ca == new.edge_ca);
        compare(
            "edge.fingerprint",
            self.edge_fingerprint == new.edge_fingerprint,
        );
        compare("edge.proxy", self.proxy == new.proxy);
        compare("edge.token_file", self.token_file == new.token_file);
        compare("edge.connections", self.connections == new.connections);
        compare("status_addr", self.status_addr == new.status_addr);
        compare("status_file", self.status_file == new.status_file);
        all
    }
}
