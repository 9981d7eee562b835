//! The recipes that ship with the daemon: those of contrib/packages.

use super::super::error::MakeError;
use super::Recipe;

/// The files of one recipe.
struct Files {
    language: &'static str,
    recipe: &'static str,
    run: Option<&'static str>,
    compile: Option<&'static str>,
}

/// A recipe of contrib/packages, with those scripts that stand beside it.
macro_rules! files {
    ($language:literal $(, $script:ident)*) => {
        Files {
            $($script: Some(include_str!(concat!(
                "../../../../../contrib/packages/", $language, "/", stringify!($script)
            ))),)*
            ..Files {
                language: $language,
                recipe: include_str!(concat!(
                    "../../../../../contrib/packages/", $language, "/recipe.toml"
                )),
                run: None,
                compile: None,
            }
        }
    };
}

/// Every recipe, by its language.
const RECIPES: [Files; 28] = [
    files!("awk"),
    files!("bash"),
    files!("d", compile),
    files!("elixir"),
    files!("erlang"),
    files!("gcc", compile),
    files!("go", compile),
    files!("haskell", compile),
    files!("java", run, compile),
    files!("javascript"),
    files!("lisp"),
    files!("lua"),
    files!("nasm", compile),
    files!("ocaml", compile),
    files!("octave"),
    files!("pascal", compile),
    files!("perl"),
    files!("php", run),
    files!("prolog"),
    files!("python"),
    files!("r"),
    files!("racket"),
    files!("ruby"),
    files!("rust"),
    files!("scheme"),
    files!("sqlite"),
    files!("tcl"),
    files!("typescript", run, compile),
];

/// The recipe of a language.
fn builtin(language: &str) -> Option<Result<Recipe, MakeError>> {
    let files = RECIPES.iter().find(|files| files.language == language)?;
    Some(files.read())
}

/// Every recipe.
pub(in super::super) fn builtins() -> impl Iterator<Item = Result<Recipe, MakeError>> {
    RECIPES.iter().map(Files::read)
}

/// The recipe of a language, or the one that begins with a package of Debian.
pub(in super::super) fn builtin_for(name: &str) -> Option<Result<Recipe, MakeError>> {
    builtin(name).or_else(|| {
        let begins_with = |recipe: &Recipe| {
            let packages = recipe.debian().map(|debian| &debian.packages);
            packages
                .and_then(|packages| packages.first())
                .is_some_and(|first| first == name)
        };
        builtins().find(|recipe| recipe.as_ref().is_ok_and(begins_with))
    })
}

/// The recipe of a package that provides a language, or runs it by another name.
pub(in super::super) fn providing(name: &str) -> Option<Recipe> {
    builtins()
        .filter_map(Result::ok)
        .find(|recipe| recipe.provides(name))
}

impl Files {
    fn read(&self) -> Result<Recipe, MakeError> {
        let script = |text: Option<&str>| text.map(ToOwned::to_owned);
        let recipe = Recipe::parse(self.recipe, script(self.run), script(self.compile));
        recipe.map_err(|reason| MakeError::Recipe {
            recipe: format!("the recipe of {}", self.language),
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_that_ships_is_good_and_is_its_folders() {
        for files in &RECIPES {
            let recipe = files.read().expect(files.language);
            assert_eq!(recipe.language.as_str(), files.language);
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/packages");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .expect("contrib/packages")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_dir())
            .map(|path| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        there.sort();
        let ours: Vec<&str> = RECIPES.iter().map(|files| files.language).collect();
        assert_eq!(there, ours, "sorted, and none is forgotten");
    }

    #[test]
    fn a_recipe_is_found_by_its_language_and_by_its_first_package() {
        for name in ["lua", "lua5.4"] {
            let recipe = builtin_for(name).expect(name).expect("a recipe");
            assert_eq!(recipe.language.as_str(), "lua");
        }
        assert!(builtin_for("libreadline8").is_none());
        for (name, expected) in [("c++", "gcc"), ("js", "javascript"), ("cpp", "gcc")] {
            let recipe = providing(name).expect(name);
            assert_eq!(recipe.language.as_str(), expected);
        }
        assert!(providing("libreadline8").is_none());
    }
}
