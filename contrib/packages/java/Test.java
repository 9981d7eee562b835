import java.util.Scanner;
import java.util.stream.IntStream;

public class Test {
    record Pair(int left, int right) {}

    public static void main(String[] args) {
        var pair = new Pair(IntStream.rangeClosed(1, 3).sum(), new Scanner(System.in).nextInt());
        if (!pair.equals(new Pair(6, 7))) System.exit(1);
        System.out.println("OK");
    }
}
