//! A wrong configuration is refused whole, with everything that is wrong with it.

mod common;

use common::*;
use lisp::wire::AuthAlgorithm;
use mapserver::{ConfigError, MapServerConfig, Secret, Site};

#[track_caller]
fn errors(sites: Vec<Site>) -> Vec<ConfigError> {
    config(sites).validate().unwrap_err()
}

#[test]
fn an_empty_configuration_is_no_mistake() {
    assert_eq!(MapServerConfig::default().validate(), Ok(()));
}

#[test]
fn every_mistake_is_named_at_once() {
    let mut bad = site("plant", &["10.0.0.0/8", "10.0.0.0/8"]);
    bad.keys.push(key(1, b""));
    bad.keys.push(key(2, b"x"));
    bad.keys[2].algorithms.clear();
    let site = "plant".to_owned();
    assert_eq!(
        errors(vec![
            bad,
            Site {
                keys: vec![],
                ..self::site("plant", &[])
            }
        ]),
        [
            ConfigError::DuplicateKeyId {
                site: site.clone(),
                key_id: 1
            },
            ConfigError::EmptySecret {
                site: site.clone(),
                key_id: 1
            },
            ConfigError::NoAlgorithm {
                site: site.clone(),
                key_id: 2
            },
            ConfigError::DuplicatePrefix {
                site: site.clone(),
                prefix: prefix("10.0.0.0/8")
            },
            ConfigError::DuplicateSite(site.clone()),
            ConfigError::NoKey(site),
        ]
    );
}

#[test]
fn overlapping_sites_must_agree_on_the_secret_of_a_key_id() {
    let other = |eids: &[&str], keys| Site {
        keys,
        ..site("office", eids)
    };
    let plant = || site("plant", &["10.0.0.0/8", "[2]10.0.0.0/8"]);
    for eids in ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"] {
        let found = errors(vec![plant(), other(&[eids], vec![key(1, b"different")])]);
        let [ConfigError::OverlapWithDifferentKeys { key_id: 1, .. }] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(found[0].to_string().contains("`plant`") && found[0].to_string().contains("key-id 1"));
    }
    let fine = [
        other(&["10.0.0.0/8"], vec![key(1, SECRET)]),
        other(&["10.0.0.0/8"], vec![key(2, b"different")]),
        other(&["11.0.0.0/8", "[3]10.0.0.0/8"], vec![key(1, b"different")]),
    ];
    for office in fine {
        assert_eq!(config(vec![plant(), office]).validate(), Ok(()));
    }
}

#[test]
fn zeros_that_would_stop_everything_are_refused() {
    let mut zero = MapServerConfig::default();
    zero.limits.sources = 0;
    zero.registration_expiry = std::time::Duration::ZERO;
    let expected = [
        ConfigError::Zero("limits.sources"),
        ConfigError::Zero("registration_expiry"),
    ];
    assert_eq!(zero.validate().unwrap_err(), expected);
}

#[test]
fn secrets_are_never_shown() {
    let mut plant = site("plant", &["10.0.0.0/8"]);
    plant.keys[0].secret = Secret::new(*b"do not show me");
    plant.keys[0].algorithms = vec![AuthAlgorithm::HmacSha1];
    let shown = format!(
        "{:?} {:?}",
        config(vec![plant.clone()]),
        config(vec![plant.clone(), plant]).validate()
    );
    assert!(!shown.contains("show me") && !shown.contains("100, 111, 32"), "{shown}");
}
