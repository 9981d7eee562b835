//! How the limits of jobs are enforced here: by control groups, or by the next best.

use piston_client::api::Mechanism;

use super::super::cgroup::{Missing, Offer};
use super::super::spec::Controllers;

/// Control groups and what comes of them.
pub(super) fn mechanisms(groups: Result<&Offer, &Missing>) -> [Mechanism; 4] {
    let controllers = groups.map_or_else(|_| Controllers::default(), |offer| offer.controllers);
    let group = match groups {
        Ok(offer) => in_force("cgroup", offer.description.clone()),
        Err(missing) => Mechanism {
            available: false,
            remedy: Some(missing.remedy.clone()),
            ..in_force("cgroup", missing.reason.clone())
        },
    };
    let memory = if controllers.memory {
        let all = groups.map_or_else(|_| String::new(), |offer| offer.memory.to_string());
        format!(
            "the kernel's, for all processes of a job with the files that it writes; no swap; all \
             jobs together {all}"
        )
    } else {
        "each process by RLIMIT_DATA, the sum over a job's processes by looking at it every 20 \
         ms, files by the size of the workspace; memory that no process has mapped is not counted; \
         jobs wait while the limits of those that run leave no room (memory_percent)"
            .to_owned()
    };
    let processes = if controllers.pids {
        "the kernel's, for each job"
    } else {
        "RLIMIT_NPROC, counted in the job's own user namespace"
    };
    let cpu = if controllers.cpu {
        "the kernel's count of everything that ran in a job"
    } else {
        "the sum over a job's processes, looked at every 20 ms; children that their parent \
         discards unseen are not counted"
    };
    [
        group,
        in_force("memory_limit", memory),
        in_force("process_limit", processes),
        in_force("cpu_limit", cpu),
    ]
}

/// A mechanism that jobs can do without.
fn in_force(name: &str, detail: impl Into<String>) -> Mechanism {
    Mechanism {
        name: name.to_owned(),
        available: true,
        required: false,
        detail: detail.into(),
        remedy: None,
    }
}

#[cfg(test)]
mod tests {
    use piston_client::units::Bytes;

    use super::*;

    #[test]
    fn what_a_group_lacks_is_enforced_otherwise_and_said() {
        let offer = Offer {
            description: "version 1".to_owned(),
            controllers: Controllers {
                memory: true,
                ..Controllers::default()
            },
            memory: Bytes::mib(3072),
        };
        let [group, memory, processes, cpu] = mechanisms(Ok(&offer));
        assert!(group.available && group.detail == "version 1");
        assert!(
            memory.detail.ends_with("together 3 GiB"),
            "{}",
            memory.detail
        );
        assert!(processes.detail.starts_with("RLIMIT_NPROC"));
        assert!(cpu.detail.contains("every 20 ms"));
    }

    #[test]
    fn without_groups_the_remedy_is_told_and_limits_are_there_all_the_same() {
        let missing = Missing {
            reason: "none are mounted".to_owned(),
            remedy: "mount them".to_owned(),
        };
        let [group, rest @ ..] = mechanisms(Err(&missing));
        assert!(!group.available && !group.required);
        assert_eq!(group.remedy.as_deref(), Some("mount them"));
        assert!(rest.iter().all(|mechanism| mechanism.available));
    }
}
