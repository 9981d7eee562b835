#!/bin/sh
# compile FILE...: builds a.out from the sources among the files; the first is the main file.
case $PISTON_LANGUAGE in
c) driver='gcc @C@' language=c ;;
*) driver='g++ @CXX@' language=c++ ;;
esac

main=$1
shift
for file do
    shift
    # A name must not read as an option or as a file of options.
    case $file in
    -* | @*) file=./$file ;;
    esac
    case $file in
    *.c | *.cc | *.cp | *.cpp | *.cxx | *.c++ | *.C | *.CPP | *.s | *.S) set -- "$@" "$file" ;;
    esac
done

case $main in
-* | @*) main=./$main ;;
esac
case $main in
*.c | *.cc | *.cp | *.cpp | *.cxx | *.c++ | *.C | *.CPP | *.s | *.S) set -- "$main" "$@" ;;
# A program is a program, whatever its file is called.
*) set -- -x "$language" "$main" -x none "$@" ;;
esac
exec $driver -o a.out "$@" -lm
