//! Tests of the command line as it is typed, and of the help that it shows.

use clap::CommandFactory as _;

use super::*;

fn run(words: &[&str]) -> Run {
    let all = ["piston", "run"].iter().chain(words);
    match Cli::try_parse_from(all).expect("good flags").command {
        Command::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_follows_two_dashes_is_the_programs() {
    let flags = run(&[
        "python",
        "x.py",
        "--timeout",
        "3s",
        "--",
        "--json",
        "-h",
        "--",
        "-x",
    ]);
    assert_eq!(flags.words, ["python", "x.py"]);
    assert_eq!(flags.args, ["--json", "-h", "--", "-x"]);
    assert_eq!(flags.timeout, Some(Millis(3000)));
    assert_eq!(run(&["python", "-"]).words, ["python", "-"]);
    assert_eq!(run(&["-"]).words, ["-"]);
}

#[test]
fn an_unknown_option_is_refused() {
    let error = Cli::try_parse_from(["piston", "run", "--tiemout", "3s", "python", "x.py"])
        .expect_err("no such option");
    assert!(error.to_string().contains("--timeout"), "{error}");
}

#[test]
fn global_options_stand_anywhere() {
    for words in [
        vec!["piston", "--json", "--host", "unix:///s", "status"],
        vec!["piston", "status", "--host", "unix:///s", "--json"],
        vec!["piston", "run", "--json", "--host", "unix:///s", "x.py"],
    ] {
        let cli = Cli::try_parse_from(words).expect("good flags");
        assert!(cli.json);
        assert_eq!(cli.host, Some("unix:///s".parse().unwrap()));
    }
}

#[test]
fn wrong_values_are_refused_with_the_right_form() {
    let check = |words: &[&str], text: &str| {
        let error = Cli::try_parse_from(words).expect_err("wrong").to_string();
        assert!(error.contains(text), "{error}");
    };
    check(
        &["piston", "--host", "ftp://x", "status"],
        "/path/to/piston.sock",
    );
    check(
        &["piston", "run", "--timeout", "soon", "x.py"],
        "1500ms, 3s",
    );
    check(
        &["piston", "run", "--timeout", "3", "x.py"],
        "write 3s or 3ms",
    );
    check(&["piston", "run", "--memory", "lots", "x.py"], "64M");
    check(&["piston", "run", "--memory", "64", "x.py"], "write 64M");
    check(&["piston", "run", "--env", "NAME", "x.py"], "NAME=VALUE");
    check(&["piston", "package", "install", "Python"], "a-z 0-9");
    check(
        &[
            "piston",
            "package",
            "from-host",
            "a",
            "--install",
            "-o",
            "f",
        ],
        "cannot be used",
    );
    check(&["piston", "job", "kill", "7"], "32 lower-case hex digits");
    check(&["piston", "run"], "required");
}

fn help(words: &[&str]) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut command = &mut command;
    for word in words {
        command = command.find_subcommand_mut(word).expect("a command");
    }
    command.render_help().to_string()
}

#[test]
fn the_help_is_this() {
    insta::assert_snapshot!(help(&[]), @"
    Runs programs in any language, sandboxed, through the Piston daemon

    Usage: piston [OPTIONS] <COMMAND>

    Commands:
      run          Run a program
      judge        Run a program against many inputs, and say which outputs are right
      package      Install, make and remove packages [alias: packages]
      repo         Configure repositories, see what they have [alias: repos]
      job          See and kill running jobs [alias: jobs]
      cache        See and purge what is kept of jobs
      runners      See and set the operator's limits of languages (runners.toml)
      token        Make, see and revoke tokens, which let clients in over the network [alias: tokens]
      status       Show whether the daemon is well, and what its host lacks
      daemon       Start a daemon of your own in the background, and end it
      check        Say whether this machine can run a daemon, and what to do for more (runs `pistond
                   check`)
      completions  Print what completes words of piston in a shell
      man          Write a manual page for each command
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --host <ADDRESS>  The daemon: a socket's /PATH or http[s]://HOST:PORT [default: $PISTON_HOST,
                            else the socket of your own daemon, else the system's]
          --cacert <FILE>   Trust the authorities in this file (PEM) at https:// addresses rather than
                            the system's [default: $PISTON_CACERT]
          --json            Print JSON for programs

    First steps:
      piston run hello.py         run a program; you are asked about what it lacks
      piston daemon start         start one (`pistond serve`: in the foreground)
      piston package install lua  install a language of `piston repo packages`
      piston package extend python --pip numpy
                                  add libraries to a language

    Exit codes: 0 done; 1 `judge` or `verify` found something wrong; 125 failed, and the message says
    what to do; 130 interrupted. `piston run` ends as the program ended, see its help.
    ");
}

#[test]
fn the_help_of_run_is_this() {
    insta::assert_snapshot!(help(&["run"]), @"
    Run a program

    Usage: piston run [OPTIONS] [LANG[@RANGE]] FILE|FOLDER... [-- ARGS...]

    Options:
          --stdin <FILE>      Give the program this file as its standard input
      -t, --timeout <TIME>    Kill it after this time, e.g. 500ms, 3s
      -m, --memory <SIZE>     Let it use this much memory, e.g. 64M
      -e, --env <NAME=VALUE>  Set a variable of its environment (more than once for more)
          --cache <LEVEL>     What may be kept of it for the next equal run: `none`, `binary` (what
                              compiling gave), `output` (the whole result) [default: the package's]
          --out <GLOB>        Write the files that it leaves and that match into this directory (more
                              than once for more)
      -i, --interactive       Talk with the program while it runs; from a terminal it gets one too
      -w, --watch             Run it again whenever one of the files changes, until Ctrl-C
          --stats             Say on standard error what it used: time, processor, memory
      -y, --yes               Start a daemon where none runs, install the language where it is missing;
                              without this you are asked, on a terminal
      -h, --help              Print help (see more with '--help')

    Global options:
          --host <ADDRESS>  The daemon: a socket's /PATH or http[s]://HOST:PORT [default: $PISTON_HOST,
                            else the socket of your own daemon, else the system's]
          --cacert <FILE>   Trust the authorities in this file (PEM) at https:// addresses rather than
                            the system's [default: $PISTON_CACERT]
          --json            Print JSON for programs

    The first FILE starts the program, `-` is standard input; the others are found beside it. Of a
    FOLDER everything is sent that is not hidden, and its main.* starts the program. What follows `--`
    are the program's arguments.

    Unless it is a terminal, standard input is read to its end and given to the program; with -i it is
    passed on as it comes, and interrupts go to the program.

    Examples:
      piston run hello.py                       the language is known by the ending
      piston run python@3.11 x.py -- one two    a version, arguments
      echo 'print(6 * 7)' | piston run python -
      sort words | piston run --timeout 1s --memory 64M count.c
      piston run main.py util.py data.csv       several files
      piston run plot.py --out '*.svg'          and what it leaves
      piston run -i game.py                     it reads what you type
      piston run --watch hello.py               again after every change

    Exit codes: the program's own; 128 + N when signal N ended it (137 also when a limit did); 125 when
    piston could not run it.
    ");
}

#[test]
fn the_help_of_package_is_this() {
    insta::assert_snapshot!(help(&["package"]), @"
    Install, make and remove packages

    Usage: piston package [OPTIONS] <COMMAND>

    Commands:
      list            List what is installed [alias: ls]
      install         Install a package from a repository, with what it depends on
      remove          Remove a package [alias: rm]
      info            Show a package: what it runs, what it is made of, who needs it
      verify          Check that what is on the disk is what was installed
      upload          Install a package file
      from-host       Make a package of what the daemon's own machine has
      from-debian     Make a package of what Debian has packaged
      from-oci        Make a package of a container image
      from-piston-v2  Convert a package of the released Piston (version 2)
      build           Make what a recipe describes
      extend          Add libraries or files to an installed language
      gc              Remove dependencies that nothing needs any more
      help            Print this message or the help of the given subcommand(s)

    Options:
      -h, --help  Print help

    Global options:
          --host <ADDRESS>  The daemon: a socket's /PATH or http[s]://HOST:PORT [default: $PISTON_HOST,
                            else the socket of your own daemon, else the system's]
          --cacert <FILE>   Trust the authorities in this file (PEM) at https:// addresses rather than
                            the system's [default: $PISTON_CACERT]
          --json            Print JSON for programs
    ");
}

#[test]
fn the_help_of_repo_is_this() {
    insta::assert_snapshot!(help(&["repo"]), @"
    Configure repositories, see what they have

    Usage: piston repo [OPTIONS] <COMMAND>

    Commands:
      list      List the configured repositories [alias: ls]
      add       Add a repository and download its index
      remove    Forget a repository; what was installed from it stays [alias: rm]
      sync      Download indexes again
      packages  List what repositories offer
      index     Write the index of a folder of package files (runs `pistond index`)
      help      Print this message or the help of the given subcommand(s)

    Options:
      -h, --help  Print help

    Global options:
          --host <ADDRESS>  The daemon: a socket's /PATH or http[s]://HOST:PORT [default: $PISTON_HOST,
                            else the socket of your own daemon, else the system's]
          --cacert <FILE>   Trust the authorities in this file (PEM) at https:// addresses rather than
                            the system's [default: $PISTON_CACERT]
          --json            Print JSON for programs
    ");
}

#[test]
fn the_help_of_the_other_commands_names_every_option() {
    for words in [
        &["package", "install"][..],
        &["package", "remove"],
        &["package", "from-host"],
        &["package", "from-debian"],
        &["package", "from-oci"],
        &["package", "from-piston-v2"],
        &["package", "build"],
        &["package", "extend"],
        &["repo", "add"],
        &["repo", "packages"],
        &["job", "kill"],
        &["cache", "show"],
        &["cache", "set"],
        &["cache", "purge"],
        &["daemon", "start"],
        &["daemon", "stop"],
        &["status"],
    ] {
        let text = help(words);
        assert!(text.contains("--host") && text.contains("--json"), "{text}");
    }
}

/// Examples stand as they were laid out; what is no example a terminal of any width breaks itself.
#[test]
fn examples_fit_a_terminal_of_usual_width() {
    fn check(command: &clap::Command) {
        let text = command.get_after_help().map(ToString::to_string);
        for line in text.unwrap_or_default().lines() {
            let fits = !line.starts_with(' ') || line.chars().count() <= 80;
            assert!(fits, "{}: {line}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}
