import std.algorithm : sum;
import std.conv : to;
import std.stdio : readln, writeln;
import std.string : strip;

int main()
{
    if ([1, 2, 4].sum != readln().strip.to!int) return 1;
    writeln("OK");
    return 0;
}
