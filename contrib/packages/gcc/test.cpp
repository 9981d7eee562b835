#include <algorithm>
#include <iostream>
#include <numeric>
#include <ranges>
#include <string>
#include <vector>

int main() {
    std::vector<int> numbers{1, 2, 3};
    auto even = numbers | std::views::filter([](int n) { return n % 2 == 0; });
    int input = 0;
    std::cin >> input;
    if (std::accumulate(numbers.begin(), numbers.end(), 0) != 6 || *even.begin() != 2 || input != 7) return 1;
    std::cout << std::string("OK") << std::endl;
}
