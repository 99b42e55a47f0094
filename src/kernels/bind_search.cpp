// Python's view of the search kernels.
#include "bindings.hpp"

namespace fewbits {

void bind_search(nb::module_&) {}

}  // namespace fewbits
