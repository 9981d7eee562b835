//! What a recipe says, and how one that is wrong is told.

use super::super::plan::Content;
use super::*;

const LUA: &str = r#"
language = "lua"
aliases = ["lua5"]
run = ["/usr/bin/lua", "{main}", "{args}"]
remove = ["/usr/share/doc/**", "*.a"]
environment = { LUA_INIT = "x y" }
limits = { run_timeout = 5000 }
links = { "/usr/bin/lua" = "lua5.4" }
files = { "/etc/lua" = "text" }

[debian]
packages = ["lua5.4"]

[test]
lua = "test.lua"
"#;

fn recipe(text: &str) -> Result<Recipe, String> {
    Recipe::parse(text, None, None)
}

fn package() -> PackageRef {
    PackageRef::new(
        "lua".parse().expect("a name"),
        "5.4.4".parse().expect("a version"),
    )
}

#[test]
fn a_recipe_becomes_a_description_and_changes_the_plan() {
    let recipe = recipe(LUA).expect("a recipe");
    let described = recipe.describe(package());
    assert_eq!(described.aliases, ["lua5"]);
    assert_eq!(described.environment, "export LUA_INIT='x y'\n");
    assert_eq!(described.limits["run_timeout"], 5000);
    assert!(matches!(described.run, Some(Step::Command(argv)) if argv.len() == 3));
    let mut plan = Plan::default();
    plan.bytes("/usr/share/doc/lua/copyright", "x");
    plan.bytes("/usr/lib/liblua.a", "x");
    plan.bytes("/usr/bin/lua5.4", "x");
    finish(&recipe, &mut plan).expect("done");
    assert!(!plan.contains("/usr/share/doc/lua") && !plan.contains("/usr/lib/liblua.a"));
    assert_eq!(
        plan.item("/usr/bin/lua"),
        Some(&Item::Symlink("lua5.4".to_owned()))
    );
    assert!(plan.contains("/etc/lua"));
}

fn finish(recipe: &Recipe, plan: &mut Plan) -> Result<(), String> {
    let done = recipe.finish(plan, str::to_owned);
    done.map_err(|error| error.to_string())
}

#[test]
fn links_and_files_land_where_directories_that_are_links_lead() {
    let image = "language = \"lua\"\n[oci]\nimage = \"lua\"\n";
    let changed = |changes: &str| {
        let mut plan = Plan::default();
        plan.bytes("/usr/bin/lua5.4", "x");
        plan.symlink("/bin", "usr/bin");
        let text = format!("{image}{changes}");
        finish(&recipe(&text).expect("a recipe"), &mut plan).map(|()| plan)
    };
    let plan = changed("[links]\n\"/bin/lua\" = \"lua5.4\"\n[files]\n\"/bin/lua5.4\" = \"y\"");
    let plan = plan.expect("done");
    assert!(plan.contains("/usr/bin/lua") && !plan.contains("/bin/lua"));
    let bytes = |item: &Item| matches!(item, Item::File { content: Content::Bytes(bytes), .. } if bytes == b"y");
    assert!(plan.item("/usr/bin/lua5.4").is_some_and(bytes));
    for (changes, expected) in [
        (
            "[files]\n\"/bin/lua5.4/x\" = \"\"",
            "`/bin/lua5.4/x` would lie in a file",
        ),
        ("[files]\n\"/usr/bin\" = \"\"", "`/usr/bin` is a directory"),
    ] {
        let text = changed(changes).expect_err(changes);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_version_is_that_of_a_debian_package() {
    let version = |text: &str, packages: &[(&str, &str)]| {
        let recipe = recipe(text).expect("a recipe");
        let debian = recipe.debian().expect("of Debian's packages");
        let version = recipe.version(debian, &packages.iter().copied().collect());
        version
            .map(|version| version.to_string())
            .map_err(|error| error.to_string())
    };
    let lua = [("lua5.4", "5.4.4-3+deb12u1"), ("libc6", "2.36-9")];
    assert_eq!(version(LUA, &lua).as_deref(), Ok("5.4.4"));
    let jdk = "language = \"java\"\n[debian]\npackages = [\"default-jdk-headless\"]\n\
               version_of = \"openjdk-*-jdk-headless\"\n";
    let packages = [
        ("default-jdk-headless", "2:1.17-74"),
        ("openjdk-17-jdk-headless", "17.0.15+6-1"),
    ];
    assert_eq!(version(jdk, &packages).as_deref(), Ok("17.0.15"));
    let text = version(jdk, &lua).expect_err("no such package");
    assert!(
        text.contains("java") && text.contains("openjdk-*"),
        "{text}"
    );
    let fixed = format!("version = \"1.2.3\"\n{LUA}");
    assert_eq!(version(&fixed, &[]).as_deref(), Ok("1.2.3"));
}

#[test]
fn a_wrong_recipe_is_told_with_what_is_wrong() {
    let rows = [
        ("language = \"lua\"", "debian"),
        (
            "language = \"Lua\"\n[debian]\npackages = [\"x\"]",
            "language",
        ),
        (
            "language = \"lua\"\n[debian]\npackages = []",
            "names nothing",
        ),
        (
            "language = \"lua\"\nrum = []\n[debian]\npackages = [\"x\"]",
            "rum",
        ),
        (
            "language = \"lua\"\nlinks = { \"/a/../b\" = \"c\" }\n[debian]\npackages = [\"x\"]",
            "/a/../b",
        ),
        (
            "language = \"lua\"\nfiles = { \"etc/x\" = \"c\" }\n[debian]\npackages = [\"x\"]",
            "etc/x",
        ),
        (
            "language = \"lua\"\nremove = [\"[\"]\n[debian]\npackages = [\"x\"]",
            "remove",
        ),
        (
            "language = \"lua\"\nenvironment = { A = \"'\" }\n[debian]\npackages = [\"x\"]",
            "variable",
        ),
    ];
    for (text, expected) in rows {
        let error = recipe(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    for (image, expected) in [
        ("[oci]\nimage = \"Lua\"", "`oci.image`"),
        ("[oci]\nimage = \"./lua.tar\"", "`oci.image`"),
        (
            "[oci]\nimage = \"lua\"\n[debian]\npackages = [\"x\"]",
            "one of them",
        ),
        ("[oci]\nimages = \"lua\"", "images"),
        ("[oci]", "image"),
    ] {
        let error = recipe(&format!("language = \"lua\"\n{image}")).expect_err(image);
        assert!(error.contains(expected), "{image}: {error}");
    }
    let twice = Recipe::parse(LUA, Some("#!/bin/sh".to_owned()), None).expect_err("twice");
    assert!(twice.contains("run"), "{twice}");
}

#[test]
fn a_folder_is_read_with_its_scripts() {
    let folder = tempfile::tempdir().expect("a directory");
    let text = LUA.replace("run =", "#run =");
    fs::write(folder.path().join(NAME), text).expect("written");
    fs::write(folder.path().join("compile"), "#!/bin/sh\n").expect("written");
    let recipe = Recipe::read(folder.path()).expect("a recipe");
    assert_eq!(recipe.run, Run::Not);
    assert_eq!(
        recipe.describe(package()).compile,
        Some(Step::Script("#!/bin/sh\n".to_owned()))
    );
    let text = Recipe::read(&folder.path().join("none.toml"))
        .expect_err("not there")
        .to_string();
    assert!(text.contains("none.toml"), "{text}");
}
