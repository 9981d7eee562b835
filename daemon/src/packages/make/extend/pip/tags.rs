//! Names of wheels, and which wheels a Python can load (PEP 425, 600).
//!
//! Pure. Of several wheels of a version the one made most closely for the Python is taken, as pip
//! takes it: its own ABI before the stable one, before none; the newest platform before older ones.

use pep440_rs::Version;

use super::project::Project;

/// The name of a wheel in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WheelName {
    /// What it is of.
    pub(super) project: Project,
    /// Which version.
    pub(super) version: Version,
    /// Which of several builds of that version.
    build: (u64, String),
    pythons: Vec<String>,
    abis: Vec<String>,
    platforms: Vec<String>,
}

/// How well a wheel fits; more is better.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    abi: u8,
    python: u64,
    platform: u64,
    build: (u64, String),
}

/// What a Python can load.
#[derive(Debug, Clone)]
pub(super) struct Tags {
    /// Its version after the `3.`
    pub(super) minor: u64,
    /// The machine: `x86_64`.
    pub(super) machine: &'static str,
    /// The version of glibc after the `2.`; none for another libc, where only wheels without
    /// compiled code are sure to run.
    pub(super) glibc: Option<u64>,
}

impl WheelName {
    /// Reads `name-version[-build]-python-abi-platform.whl`; none when it is no such name.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(".whl")?;
        let parts: Vec<&str> = stem.split('-').collect();
        let (name, version, build, tags) = match parts.as_slice() {
            [name, version, tags @ ..] if tags.len() == 3 => (name, version, "", tags),
            [name, version, build, tags @ ..] if tags.len() == 3 => (name, version, *build, tags),
            _ => return None,
        };
        let digits = build
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(build.len());
        let (number, rest) = build.split_at(digits);
        if !build.is_empty() && number.is_empty() {
            return None;
        }
        let several = |tags: &str| tags.split('.').map(ToOwned::to_owned).collect();
        Some(Self {
            project: Project::new(name).ok()?,
            // Local parts are written with `_`, where versions have `.`.
            version: version.replace('_', ".").parse().ok()?,
            build: (number.parse().unwrap_or(0), rest.to_owned()),
            pythons: several(tags[0]),
            abis: several(tags[1]),
            platforms: several(tags[2]),
        })
    }
}

impl Tags {
    /// How well a wheel fits; none when it does not.
    pub(super) fn fit(&self, wheel: &WheelName) -> Option<Fit> {
        let platform = wheel
            .platforms
            .iter()
            .filter_map(|tag| self.platform(tag))
            .max()?;
        let interpreters = wheel.pythons.iter().flat_map(|python| {
            wheel
                .abis
                .iter()
                .filter_map(|abi| self.interpreter(python, abi))
        });
        let (abi, python) = interpreters.max()?;
        Some(Fit {
            abi,
            python,
            platform,
            build: wheel.build.clone(),
        })
    }

    /// The kind of ABI and how new the Python is that it asks for.
    fn interpreter(&self, python: &str, abi: &str) -> Option<(u8, u64)> {
        let (kind, minor) = if let Some(version) = python.strip_prefix("cp3") {
            ("cp", version)
        } else {
            ("py", python.strip_prefix("py3")?)
        };
        let minor: u64 = if minor.is_empty() {
            0
        } else {
            minor.parse().ok()?
        };
        let own = format!("cp3{}", self.minor);
        // Before 3.8 the ABI has a letter for the allocator, which all builds had.
        let is_own = abi == own || (self.minor < 8 && abi == format!("{own}m"));
        match (kind, abi) {
            ("cp", _) if is_own && minor == self.minor => Some((3, minor)),
            ("cp", "abi3") if (2..=self.minor).contains(&minor) => Some((2, minor)),
            ("cp", "none") if minor == self.minor => Some((1, minor)),
            ("py", "none") if minor <= self.minor => Some((0, minor)),
            _ => None,
        }
    }

    /// How new the platform is that it asks for.
    fn platform(&self, tag: &str) -> Option<u64> {
        if tag == "any" {
            return Some(0);
        }
        let rest = tag.strip_prefix("manylinux")?;
        let rest = rest.strip_suffix(self.machine)?.strip_suffix('_')?;
        let minor = match rest {
            "1" => 5,
            "2010" => 12,
            "2014" => 17,
            newer => newer.strip_prefix("_2_")?.parse().ok()?,
        };
        (minor <= self.glibc?).then_some(minor + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(file: &str) -> Option<Fit> {
        let tags = Tags {
            minor: 11,
            machine: "x86_64",
            glibc: Some(36),
        };
        tags.fit(&WheelName::parse(file).unwrap_or_else(|| panic!("{file}")))
    }

    #[test]
    fn only_wheels_that_the_python_loads_fit() {
        for (tags, expected) in [
            ("py3-none-any", true),
            ("py2.py3-none-any", true),
            ("py2-none-any", false),
            ("py311-none-any", true),
            ("py312-none-any", false),
            (
                "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
                true,
            ),
            ("cp311-cp311-manylinux_2_36_x86_64", true),
            ("cp311-cp311-manylinux_2_37_x86_64", false),
            ("cp311-cp311-manylinux1_x86_64", true),
            ("cp311-cp311-manylinux2014_aarch64", false),
            ("cp311-cp311-musllinux_1_2_x86_64", false),
            ("cp311-cp311-win_amd64", false),
            ("cp311-cp311-linux_x86_64", false),
            ("cp312-cp312-manylinux2014_x86_64", false),
            ("cp313-cp313t-manylinux2014_x86_64", false),
            ("cp37-abi3-manylinux2014_x86_64", true),
            ("cp312-abi3-manylinux2014_x86_64", false),
            ("cp311-none-manylinux2014_x86_64", true),
            ("cp310-none-any", false),
            ("pp311-pypy311_pp73-manylinux2014_x86_64", false),
        ] {
            assert_eq!(
                fit(&format!("a-1.0-{tags}.whl")).is_some(),
                expected,
                "{tags}"
            );
        }
    }

    #[test]
    fn the_wheel_made_most_closely_for_it_fits_best() {
        let ordered = [
            "a-1.0-py3-none-any.whl",
            "a-1.0-cp39-abi3-manylinux2014_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux1_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux2014_x86_64.whl",
            "a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            "a-1.0-1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "a-1.0-10b-cp311-cp311-manylinux_2_28_x86_64.whl",
        ];
        let fits = ordered.map(|file| fit(file).expect(file));
        assert!(fits.is_sorted(), "{fits:?}");
    }

    #[test]
    fn without_glibc_only_wheels_without_compiled_code_fit() {
        let tags = Tags {
            minor: 11,
            machine: "x86_64",
            glibc: None,
        };
        let fits = |file| tags.fit(&WheelName::parse(file).expect(file)).is_some();
        assert!(fits("a-1.0-py3-none-any.whl"));
        assert!(!fits("a-1.0-cp311-cp311-manylinux2014_x86_64.whl"));
    }

    #[test]
    fn what_is_no_name_of_a_wheel_is_told_apart() {
        for file in [
            "a-1.0.tar.gz",
            "a-1.0.whl",
            "a-1.0-py3-none.whl",
            "a-soon-py3-none-any.whl",
            "a-1.0-b1-py3-none-any.whl",
            "-1.0-py3-none-any.whl",
        ] {
            assert_eq!(WheelName::parse(file), None, "{file}");
        }
        let local = WheelName::parse("torch-2.1.0+cpu-cp311-cp311-linux_x86_64.whl");
        assert_eq!(local.expect("a wheel").version.to_string(), "2.1.0+cpu");
    }
}
