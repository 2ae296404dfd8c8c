//! The name rules of Kubernetes (RFC 1123).

/// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end.
pub(crate) fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A DNS subdomain: labels joined by dots, at most 253 bytes. Kubernetes does not limit its single labels.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=253).contains(&name.len()) && name.split('.').all(label)
}

/// What sethostname(2) takes and a resolver can bear: 1 to 64 of letters, digits, `-` and `.`.
pub(crate) fn is_hostname(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

/// The host name that Kubernetes makes of a pod's name: its first 63 bytes, less trailing `-` and `.`.
pub(crate) fn hostname_from_name(name: &str) -> String {
    // Names are ASCII by is_dns_subdomain, so that a byte is a character.
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels() {
        for good in ["a", "web-1", &"x".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a/b", "..", &"x".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
    }

    #[test]
    fn subdomains() {
        assert!(is_dns_subdomain("web.shop-1.example"));
        assert!(is_dns_subdomain(&"x".repeat(253)));
        for bad in ["", ".", "a..b", ".a", "a.", "a.-b", "A", &"x".repeat(254)] {
            assert!(!is_dns_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn hostnames_are_cut_as_kubernetes_does() {
        assert_eq!(hostname_from_name("web"), "web");
        let long = format!("{}-.{}", "x".repeat(61), "y".repeat(10));
        assert_eq!(hostname_from_name(&long), "x".repeat(61));
    }

    proptest! {
        #[test]
        fn every_pod_name_gives_a_hostname(name in "[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?") {
            prop_assume!(is_dns_subdomain(&name));
            prop_assert!(is_hostname(&hostname_from_name(&name)));
        }
    }
}
