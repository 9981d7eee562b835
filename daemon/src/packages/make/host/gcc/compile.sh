#!/bin/bash
# compile FILE...: builds a.out from the sources among the files; the first is the main file.
case "$PISTON_LANGUAGE" in
c) driver=(gcc @C@) language=c ;;
*) driver=(g++ @CXX@) language=c++ ;;
esac

main=$1
shift
case "$main" in
*.c | *.cc | *.cp | *.cpp | *.cxx | *.c++ | *.C | *.CPP | *.s | *.S) sources=("./$main") ;;
# A program is a program, whatever its file is called.
*) sources=(-x "$language" "./$main" -x none) ;;
esac
for file in "$@"; do
    case "$file" in
    *.c | *.cc | *.cp | *.cpp | *.cxx | *.c++ | *.C | *.CPP | *.s | *.S) sources+=("./$file") ;;
    esac
done
exec "${driver[@]}" -o a.out "${sources[@]}" -lm
