package main

import (
	"fmt"
	"os"
	"sort"
	"sync"
)

func main() {
	numbers := []int{3, 1, 2}
	sort.Ints(numbers)
	var group sync.WaitGroup
	sum := make(chan int, len(numbers))
	for _, number := range numbers {
		group.Add(1)
		go func(number int) { defer group.Done(); sum <- number }(number)
	}
	group.Wait()
	close(sum)
	total, input := 0, 0
	for number := range sum {
		total += number
	}
	if _, err := fmt.Scan(&input); err != nil || total != 6 || input != 7 || numbers[0] != 1 {
		os.Exit(1)
	}
	fmt.Println("OK")
}
