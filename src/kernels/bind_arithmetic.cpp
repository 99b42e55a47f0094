// Python's view of the arithmetic kernels.
#include "bindings.hpp"

namespace fewbits {

void bind_arithmetic(nb::module_&) {}

}  // namespace fewbits
