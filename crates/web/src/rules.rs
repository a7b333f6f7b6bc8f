//! What an agent may see of the web (contract 10, "Domain rules").

use freehold_wire::domains;
use freehold_wire::tool::BuiltinToolConfig;
use url::Url;

/// The rules of one web tool of an agent. Lists hold entries that [`domains::validate`] accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// If set, only these.
    pub allowed_domains: Option<Vec<String>>,
    /// If set, all but these.
    pub blocked_domains: Option<Vec<String>>,
    /// `web_fetch`: most text of a page, tokens.
    pub max_content_tokens: Option<u64>,
}

impl From<&BuiltinToolConfig> for Rules {
    fn from(config: &BuiltinToolConfig) -> Self {
        Self {
            allowed_domains: config.allowed_domains.clone(),
            blocked_domains: config.blocked_domains.clone(),
            max_content_tokens: config.max_content_tokens,
        }
    }
}

impl Rules {
    /// Whether the lists let `url` pass. One without a host never passes, an address only where
    /// nothing is asked for by name.
    pub fn permit(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else {
            return false;
        };
        let on = |list: &Vec<String>| list.iter().any(|e| domains::covers(e, host, url.path()));
        self.allowed_domains.as_ref().is_none_or(on)
            && !self.blocked_domains.as_ref().is_some_and(on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allowed: Option<&[&str]>, blocked: Option<&[&str]>) -> Rules {
        let list = |list: Option<&[&str]>| {
            list.map(|list| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
        };
        Rules {
            allowed_domains: list(allowed),
            blocked_domains: list(blocked),
            ..Rules::default()
        }
    }

    #[test]
    fn lists_decide_by_host() {
        for (allowed, blocked, url, passes) in [
            (None, None, "https://a.com/", true),
            (None, None, "https://93.184.216.34/", true),
            (Some(&["a.com"][..]), None, "https://A.com:8443/x", true),
            (Some(&["a.com"]), None, "https://www.a.com./", true),
            (Some(&["a.com"]), None, "https://b.com/?a.com", false),
            (Some(&["a.com"]), None, "https://a.com.b.com/", false),
            (Some(&["a.com"]), None, "https://93.184.216.34/", false),
            (Some(&[]), None, "https://a.com/", false),
            (None, Some(&["a.com"][..]), "https://www.a.com/", false),
            (None, Some(&["a.com"]), "https://%61.com/", false),
            (None, Some(&["a.com"]), "https://ａ.com/", false),
            (None, Some(&["a.com"]), "https://b.com/", true),
            (None, Some(&["a.com/x"]), "https://a.com/y", true),
            (None, Some(&["a.com/x"]), "https://a.com/x/y", false),
            (None, Some(&["a.com/x"]), "https://a.com/y/../x", false),
            (None, None, "data:text/plain,x", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(rules(allowed, blocked).permit(&url), passes, "{url}");
        }
    }
}
