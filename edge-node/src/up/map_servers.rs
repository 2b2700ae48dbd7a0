//! Map-Servers of this node: each a task with its own sockets and store.

use std::{collections::BTreeMap, path::Path, time::Duration};

use mapserver::{
    MapServerConfig, SealedInstance, Secret, Site, SiteKey, SitePrefix,
    net::{Control, Server, Status},
    store::{Durability, FjallStore, MemoryStore, Store},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::secrets::Secrets;
use crate::intent::{self, MapServer, Name, StoreKind};

/// Running Map-Servers by name.
#[derive(Debug, Default)]
pub struct MapServers {
    running: BTreeMap<Name, Running>,
}

#[derive(Debug)]
struct Running {
    spec: MapServer,
    control: mpsc::Sender<Control>,
    task: JoinHandle<()>,
}

impl MapServers {
    /// Makes them what the intent says: starts, stops, reconfigures.
    ///
    /// # Errors
    /// Which one cannot be what it shall be, and why.
    pub async fn set(
        &mut self,
        wanted: &BTreeMap<Name, MapServer>,
        secrets: &Secrets,
        state: &Path,
    ) -> Result<(), String> {
        let stale: Vec<Name> = self
            .running
            .iter()
            .filter(|(name, running)| {
                wanted.get(*name).is_none_or(|spec| {
                    spec.listen != running.spec.listen || spec.store != running.spec.store || running.task.is_finished()
                })
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in stale {
            self.stop(&name).await;
        }
        for (name, spec) in wanted {
            let config = config(spec, secrets);
            match self.running.get_mut(name) {
                Some(running) => {
                    let (answer, answered) = oneshot::channel();
                    let command = Box::new(mapserver::Command::Reconfigure(config));
                    let sent = running.control.send(Control::Command(command, answer)).await;
                    match (sent, answered.await) {
                        (Ok(()), Ok(Ok(()))) => running.spec = spec.clone(),
                        (Ok(()), Ok(Err(errors))) => {
                            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                            return Err(format!("MapServer/{name}: {}", errors.join("; ")));
                        }
                        _ => return Err(format!("MapServer/{name} has stopped")),
                    }
                }
                None => {
                    let running =
                        start(name, spec, config, state).map_err(|error| format!("MapServer/{name}: {error}"))?;
                    self.running.insert(name.clone(), running);
                }
            }
        }
        Ok(())
    }

    /// How each is.
    pub async fn status(&self) -> BTreeMap<Name, Status> {
        let mut all = BTreeMap::new();
        for (name, running) in &self.running {
            let (answer, answered) = oneshot::channel();
            if running.control.send(Control::Status(answer)).await.is_ok()
                && let Ok(Ok(status)) = timeout(Duration::from_secs(2), answered).await
            {
                all.insert(name.clone(), status);
            }
        }
        all
    }

    /// Ends all of them; what they acknowledged is in their stores.
    pub async fn stop_all(&mut self) {
        let names: Vec<Name> = self.running.keys().cloned().collect();
        for name in names {
            self.stop(&name).await;
        }
    }

    async fn stop(&mut self, name: &str) {
        if let Some(running) = self.running.remove(name) {
            drop(running.control);
            let _ = timeout(Duration::from_secs(3), running.task).await;
        }
    }
}

fn start(name: &str, spec: &MapServer, config: MapServerConfig, state: &Path) -> Result<Running, String> {
    let store: Box<dyn Store> = match spec.store {
        StoreKind::Memory => Box::new(MemoryStore::default()),
        StoreKind::Disk => {
            let directory = state.join("mapserver").join(name);
            std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            let opened = FjallStore::open(&directory, Durability::Power);
            Box::new(opened.map_err(|error| format!("the store in {} cannot be opened: {error}", directory.display()))?)
        }
    };
    let server = Server::bind(config, store, &spec.listen).map_err(|error| error.to_string())?;
    let (control, commands) = mpsc::channel(16);
    let task = tokio::spawn(server.run(commands));
    Ok(Running {
        spec: spec.clone(),
        control,
        task,
    })
}

fn config(spec: &MapServer, secrets: &Secrets) -> MapServerConfig {
    let site = |site: &intent::Site| Site {
        name: site.name.clone(),
        // Without its secret a key opens nothing: an empty one would be known to everybody.
        keys: site
            .keys
            .iter()
            .filter_map(|key| {
                Some(SiteKey {
                    key_id: key.key_id,
                    secret: Secret::new(secrets.get(&key.secret)?.expose()),
                    algorithms: key.algorithms.clone(),
                })
            })
            .collect(),
        prefixes: site
            .prefixes
            .iter()
            .map(|prefix| SitePrefix {
                prefix: prefix.prefix,
                accept_more_specifics: prefix.accept_more_specifics,
            })
            .collect(),
        allow_proxy_reply: site.allow_proxy_reply,
        force_proxy_reply: false,
    };
    let sites = spec.sites.iter().map(site).filter(|site| !site.keys.is_empty());
    MapServerConfig {
        sites: sites.collect(),
        blocks: spec.blocks.clone(),
        sealed: spec
            .authorities
            .iter()
            .filter(|instance| instance.sealed)
            .map(|instance| {
                let authority = instance.authority;
                (instance.instance_id, SealedInstance { authority })
            })
            .collect(),
        ..MapServerConfig::default()
    }
}
