//! Tests of which package runs a language, and of what is said where none does.

use super::super::failure::account;
use super::*;
use crate::api::StageLimits;

fn runtime(package: &str, version: &str, language: &str, aliases: &[&str]) -> Runtime {
    Runtime {
        language: language.parse().expect("a language"),
        version: version.parse().expect("a version"),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        package: package.parse().expect("a package"),
        compiled: false,
        limits: StageLimits::default(),
    }
}

fn some() -> Vec<Runtime> {
    vec![
        runtime("gcc", "10.2.0", "c", &[]),
        runtime("gcc", "12.2.0", "c++", &["cpp"]),
        runtime("gcc", "12.2.0", "c", &[]),
        runtime("tcc", "99.0.0", "c", &[]),
        runtime("python", "3.9.0", "python", &["py"]),
        runtime("python", "3.11.2", "python", &["py"]),
        runtime("pypy", "7.3.0", "python", &["pypy3"]),
        runtime("node", "20.0.0", "javascript", &["js"]),
    ]
}

#[test]
fn the_package_of_a_language_is_found_by_every_name_of_it() {
    let check = |wanted: Wanted, expected: &[(&str, &str)]| {
        let found = candidates(&some(), &wanted);
        let found: Vec<_> = found
            .iter()
            .map(|(p, l)| (p.as_str(), l.as_str()))
            .collect();
        assert_eq!(found, expected, "{wanted:?}");
    };
    let named = |name: &str| Wanted::Named(name.to_owned());
    check(named("c++"), &[("gcc", "c++")]);
    check(named("CPP"), &[("gcc", "c++")]);
    check(named("py"), &[("python", "python")]);
    check(named("python"), &[("python", "python"), ("pypy", "python")]);
    check(named("c"), &[("tcc", "c"), ("gcc", "c")]);
    check(named("cobol"), &[]);
    check(Wanted::OneOf(&["bash", "js"]), &[("node", "javascript")]);
    check(Wanted::OneOf(&["bash", "sh"]), &[]);
}

/// An offer of the repository `mine`.
fn offer(package: &str, aliases: &[&str]) -> AvailablePackage {
    let offer = serde_json::json!({"repository": "mine", "language": package,
        "version": "1.0.0", "aliases": aliases, "size": 0, "checksums": {}, "dependencies": {},
        "download": "recipe:x", "installed": false});
    serde_json::from_value(offer).expect("an offer")
}

#[test]
fn a_missing_language_gets_the_likeliest_advice_first() {
    let text = |wanted: &[&str], runtimes: &[Runtime], offers: &[AvailablePackage]| {
        let account = account(&missing_language(wanted, runtimes, Some(offers)).into());
        format!("{}\n{}", account.error, account.next.join("\n"))
    };
    insta::assert_snapshot!(text(&["pyhton"], &some(), &[]), @"
    language `pyhton` is not installed
    did you mean `python`?
    see what can be installed: `piston repo packages --sync`
    installed are: c, c++, javascript, python
    ");
    insta::assert_snapshot!(text(&["javascirpt"], &[], &[offer("node", &["javascript"])]), @"
    language `javascirpt` is not installed
    did you mean `javascript`?
    see what can be installed: `piston repo packages --sync`
    ");
    insta::assert_snapshot!(text(&["python"], &[], &[]), @"
    language `python` is not installed
    make it of what this machine has: `piston package from-host python --install`
    ");
    insta::assert_snapshot!(text(&["c++"], &[], &[offer("gcc", &["c", "c++"])]), @"
    language `c++` is not installed
    install it: `piston package install gcc`, or say -y
    make it of what this machine has: `piston package from-host gcc --install`
    ");
    insta::assert_snapshot!(text(&["cobol"], &[], &[]), @"
    language `cobol` is not installed
    see what can be installed: `piston repo packages --sync`
    ");
}

#[test]
fn who_may_not_install_is_told_whom_to_ask() {
    let account = account(&missing_language(&["python"], &some()[..3], None).into());
    insta::assert_snapshot!(account.next.join("\n"), @"
    ask whoever runs the daemon to install it
    installed are: c, c++
    ");
}

#[test]
fn a_language_comes_from_a_repository_or_else_of_the_daemons_machine() {
    let offers = [
        offer("pypy", &["python"]),
        offer("python", &[]),
        offer("gcc", &["c", "c++"]),
        offer("mono", &["c#", "csharp"]),
    ];
    let repository = |package: &str| {
        let (package, name) = (package.parse().expect("a name"), "mine".to_owned());
        Some(Source::Repository { package, name })
    };
    let check = |wanted: &[&str], offers: &[AvailablePackage], expected: Option<Source>| {
        assert_eq!(source(wanted, offers), expected, "{wanted:?}");
    };
    check(&["python"], &offers, repository("python"));
    check(&["C++"], &offers, repository("gcc"));
    check(&["dotnet", "c#"], &offers, repository("mono"));
    check(&["cobol"], &offers, None);
    check(&["python"], &[], Some(Source::Host("python")));
    check(&["cpp"], &[], Some(Source::Host("gcc")));
    check(&["rs"], &[], Some(Source::Host("rust")));
    check(&["haskell"], &[], None);
}
